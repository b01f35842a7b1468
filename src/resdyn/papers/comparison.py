"""Every claim of a paper beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from resdyn.papers.claims import VERDICTS, Claim, Verdict
from resdyn.papers.lab import SCALES
from resdyn.papers.paper import Experiment, Paper
from resdyn.papers.results import Number, Result

SEEDS = 3  # trainings, of which an error over trainings needs at least so many


@dataclass(frozen=True)
class ComparedClaim:
    """A claim beside our number.

    Attributes:
        claim: What the paper says.
        number: Ours, of the largest scale that measured it, and there of the last result. None: none did.
        scale: That scale. None: none.
        verdict: By the claim's rule: "agrees", "disagrees", "undecided" or "not run".
        why: The reason for the verdict, in words.
        null: The same number of the experiment's null at the same scale. None: not measured, or there is none.
        seeds: How many trainings the number is of. None: of no trained network.
    """

    claim: Claim
    number: Number | None
    scale: str | None
    verdict: Verdict
    why: str
    null: Number | None = None
    seeds: int | None = None

    @property
    def few_seeds(self) -> str:
        """How many trainings there were, where these are fewer than the three that an error over them needs; or ""."""
        known = self.verdict != "not run" and self.seeds is not None and self.seeds < SEEDS
        return "" if not known else "one seed" if self.seeds == 1 else f"{self.seeds} seeds"


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
        results: Its results and their nulls, such as those of `results_of`, in any order.

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
        where nothing was measured), `error` (its standard error or None), `null` (the number of its null or
        None), `scale`, `seeds` (trainings, or None), `verdict` and `why`.
    """
    return {
        "experiments": [
            {"name": row.experiment.name, "title": row.experiment.title, "claims": [_row(c) for c in row.claims]}
            for row in compared
        ]
    }


def verdict_counts(compared: Sequence[ComparedExperiment], scale: str | None = None) -> dict[str, int]:
    """How many claims agree, disagree, are undecided, were not run.

    Args:
        compared: What `compare` returned.
        scale: Count those alone whose number was measured at this scale. None: all.
    """
    verdicts = [claim.verdict for row in compared for claim in row.claims if scale in (None, claim.scale)]
    return {name: verdicts.count(name) for name in VERDICTS}


def headline(compared: Sequence[ComparedExperiment]) -> list[tuple[str, dict[str, int]]]:
    """Verdicts by the size of the run: at the paper's own size, smaller, and what was not run.

    Args:
        compared: What `compare` returned.

    Returns:
        (size, counts of agrees, disagrees, undecided and, in the last row, not run).
    """
    sizes = (("at the paper's size", "paper"), ("in smaller runs", "small"))
    rows = [(title, _judged(verdict_counts(compared, scale))) for title, scale in sizes]
    return [*rows, ("", {"not run": verdict_counts(compared)["not run"]})]


def one_seed_count(compared: Sequence[ComparedExperiment]) -> int:
    """How many of the judged claims rest on fewer trainings than an error over trainings needs."""
    return sum(bool(claim.few_seeds) for row in compared for claim in row.claims)


def _judged(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name != "not run"}


def same_name_other_weights(results: Sequence[Result]) -> list[str]:
    """Cases whose networks differ between results, in words: such numbers are of different trainings.

    Args:
        results: Of one paper.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for result in (r for r in results if not r.null):
        for name, row in result.networks.items():
            mark = row.get("weights_hash") or f"training loss {row['train_loss']}"
            found.setdefault(name, {}).setdefault(mark, []).append(f"{result.experiment} ({result.scale})")
    return [
        f"{name}: {len(groups)} different networks, of {'; of '.join(', '.join(sorted(g)) for g in groups.values())}"
        for name, groups in sorted(found.items())
        if len(groups) > 1
    ]


def _experiment(experiment: Experiment, results: Sequence[Result]) -> ComparedExperiment:
    def of(name: str, null: bool = False) -> list[Result]:
        own = [result for result in results if result.experiment == name and result.null == null]
        return sorted(own, key=lambda result: SCALES.index(result.scale))[::-1]

    claims = []
    for claim in experiment.claims:
        name = claim.experiment or experiment.name
        nulls = [] if claim.no_null or experiment.no_null else of(name, null=True)
        claims.append(_claim(experiment, claim, of(name), nulls))
    return ComparedExperiment(experiment, tuple(claims), tuple(of(experiment.name)))


def _claim(experiment: Experiment, claim: Claim, results: Sequence[Result], nulls: Sequence[Result]) -> ComparedClaim:
    no_null, null_name = claim.no_null or experiment.no_null, experiment.null_name
    for result in results:
        number = _measured(claim.number, [result])
        if number is None:
            continue
        null = _measured(claim.number, [null for null in nulls if null.scale == result.scale])
        verdict, why = claim.judge(number, result.scale, null, null_name)
        if verdict == "agrees" and null is None and not no_null and claim.null is None:
            verdict, why = "undecided", f"{why}; {null_name} has not been measured (--null)"
        found = ComparedClaim(claim, number, result.scale, verdict, why, null, _seeds(number, result))
        return replace(found, why=f"{why}; {found.few_seeds}") if found.few_seeds else found
    return ComparedClaim(claim, None, None, *claim.judge(None, None))


def _measured(key: str, results: Sequence[Result]) -> Number | None:
    """A number with a value, of the first result that has it."""
    known = (result.numbers.get(key) for result in results)
    return next((number for number in known if number is not None and number.value is not None), None)


def _seeds(number: Number, result: Result) -> int | None:
    """A number over seeds is of so many trainings, any other of one, where the result has networks."""
    return number.n if number.over == "seeds" else 1 if result.networks else None


def _row(compared: ComparedClaim) -> dict[str, Any]:
    claim, number, null = compared.claim, compared.number, compared.null
    return {
        "claim": claim.claim,
        "where": claim.where,
        "paper": claim.paper,
        "ours": None if number is None else number.value,
        "error": None if number is None else number.error,
        "null": None if null is None else null.value,
        "scale": compared.scale,
        "seeds": compared.seeds,
        "verdict": compared.verdict,
        "why": compared.why,
    }
