"""Every claim of a paper beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resdyn.papers.claims import Claim, Verdict
from resdyn.papers.lab import SCALES
from resdyn.papers.paper import Experiment, Paper
from resdyn.papers.results import Number, Result


@dataclass(frozen=True)
class ComparedClaim:
    """A claim, our number of the largest scale that measured it (None: none did), and the verdict by its rule."""

    claim: Claim
    number: Number | None
    scale: str | None
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class ComparedExperiment:
    """An experiment with its claims judged, and the results behind them, the largest scale first."""

    experiment: Experiment
    claims: tuple[ComparedClaim, ...]
    results: tuple[Result, ...]


def compare(paper: Paper, results: Sequence[Result]) -> list[ComparedExperiment]:
    """Judge every claim of a paper by the results at hand."""
    return [_experiment(experiment, results) for experiment in paper.experiments.values()]


def as_json(compared: Sequence[ComparedExperiment]) -> dict[str, Any]:
    """Plain data: experiments, each with claims (claim, paper, ours, scale, verdict, why)."""
    return {
        "experiments": [
            {"name": row.experiment.name, "title": row.experiment.title, "claims": [_row(c) for c in row.claims]}
            for row in compared
        ]
    }


def verdict_counts(compared: Sequence[ComparedExperiment]) -> dict[str, int]:
    """How many claims agree, disagree, were not run."""
    verdicts = [claim.verdict for row in compared for claim in row.claims]
    return {name: verdicts.count(name) for name in ("agrees", "disagrees", "not run")}


def _experiment(experiment: Experiment, results: Sequence[Result]) -> ComparedExperiment:
    def of(name: str) -> list[Result]:
        own = [result for result in results if result.experiment == name]
        return sorted(own, key=lambda result: -SCALES.index(result.scale))

    claims = tuple(_claim(c, of(c.experiment or experiment.name)) for c in experiment.claims)
    return ComparedExperiment(experiment, claims, tuple(of(experiment.name)))


def _claim(claim: Claim, results: Sequence[Result]) -> ComparedClaim:
    for result in results:
        number = result.numbers.get(claim.number)
        if number is not None and number.value is not None:
            return ComparedClaim(claim, number, result.scale, *claim.judge(number, result.scale))
    return ComparedClaim(claim, None, None, *claim.judge(None, None))


def _row(compared: ComparedClaim) -> dict[str, Any]:
    claim, number = compared.claim, compared.number
    return {
        "claim": claim.claim,
        "where": claim.where,
        "paper": claim.paper,
        "ours": None if number is None else number.value,
        "error": None if number is None else number.error,
        "scale": compared.scale,
        "verdict": compared.verdict,
        "why": compared.why,
    }
