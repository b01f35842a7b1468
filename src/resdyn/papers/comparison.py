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
    """A claim beside our number.

    Attributes:
        claim: What the paper says.
        number: Ours, of the largest scale that measured it. None: none did.
        scale: That scale. None: none.
        verdict: By the claim's rule: "agrees", "disagrees" or "not run".
        why: The reason for the verdict, in words.
    """

    claim: Claim
    number: Number | None
    scale: str | None
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class ComparedExperiment:
    """An experiment with its claims judged.

    Attributes:
        experiment: What was run.
        claims: Its claims, in order, each with our number.
        results: Those of the experiment, the largest scale first.
    """

    experiment: Experiment
    claims: tuple[ComparedClaim, ...]
    results: tuple[Result, ...]


def compare(paper: Paper, results: Sequence[Result]) -> list[ComparedExperiment]:
    """Judge every claim of a paper by the results at hand.

    Args:
        paper: The paper.
        results: Its results, such as those of `results_of`, in any order.

    Returns:
        One row per experiment, in the paper's order, also of those that were not run.

    Example:
        >>> from resdyn.papers import get_paper, results_of
        >>> paper = get_paper("residual_alignment")
        >>> compare(paper, results_of(paper))[0].claims[0].claim.where
        'figure 8'
    """
    return [_experiment(experiment, results) for experiment in paper.experiments.values()]


def as_json(compared: Sequence[ComparedExperiment]) -> dict[str, Any]:
    """A comparison as plain data, for JSON.

    Args:
        compared: What `compare` returned.

    Returns:
        `experiments`, a list of `name`, `title` and `claims`; each claim has `claim`, `where`, `paper`, `ours` (None
        where nothing was measured), `error` (its standard error or None), `scale`, `verdict` and `why`.
    """
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
