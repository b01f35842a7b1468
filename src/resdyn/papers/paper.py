"""A paper: its experiments, what it claims, and where our results are kept."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdyn.errors import InputError, did_you_mean
from resdyn.papers.claims import UNTRAINED, Claim
from resdyn.papers.lab import Lab

NAMES = ("residual_alignment", "stiffness", "transient_dynamics", "identity_connections")


@dataclass(frozen=True)
class Experiment:
    """An experiment of a paper.

    Attributes:
        name: As in `resdyn paper run`, such as "ra1".
        title: One line on what it shows.
        claims: What its numbers bear on, in the order of expected.json.
        run: Measures, and writes down what it finds in the `Lab` that it is given.
        no_null: Why its claims have no null; "": they have one.
        null_name: What `--null` runs instead and the claims are judged against, as the reason of a verdict calls it.
    """

    name: str
    title: str
    claims: tuple[Claim, ...]
    run: Callable[[Lab], None]
    no_null: str = ""
    null_name: str = UNTRAINED


@dataclass(frozen=True)
class Paper:
    """A paper that resdyn reproduces.

    Attributes:
        name: Of its folder, such as "residual_alignment".
        title: Of the paper.
        reference: Authors, place and year.
        experiments: By name, in the order of expected.json.
        folder: Holds expected.json and, under results/, what we found.
    """

    name: str
    title: str
    reference: str
    experiments: dict[str, Experiment]
    folder: Path

    @classmethod
    def of(cls, folder: Path, scripts: Mapping[str, Callable[[Lab], None]]) -> Paper:
        """The paper of a folder.

        Args:
            folder: Holds expected.json, with `title`, `reference` and `experiments`.
            scripts: The functions that run the experiments, by name.
        """
        expected: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        experiments = {
            entry["name"]: Experiment(
                entry["name"],
                entry["title"],
                tuple(Claim.of(c) for c in entry["claims"]),
                scripts[entry["name"]],
                entry.get("no_null", ""),
                entry.get("null_name", UNTRAINED),
            )
            for entry in expected["experiments"]
        }
        return cls(folder.name, expected["title"], expected["reference"], experiments, folder)

    def experiment(self, name: str) -> Experiment:
        """The experiment of a name.

        Args:
            name: Such as "ra1".

        Raises:
            InputError: For an unknown name; it lists the known ones.
        """
        if name in self.experiments:
            return self.experiments[name]
        known = ", ".join(self.experiments)
        hint = did_you_mean(name, list(self.experiments))
        raise InputError(f"got the experiment '{name}' of {self.name}, expected one of {known}.{hint}")


def names() -> tuple[str, ...]:
    """The papers that there are, by the names that `get_paper` takes.

    Example:
        >>> names()
        ('residual_alignment', 'stiffness', 'transient_dynamics', 'identity_connections')
    """
    return NAMES


def get_paper(name: str) -> Paper:
    """A paper by name.

    Args:
        name: One of `names()`.

    Returns:
        The paper with its experiments and claims.

    Raises:
        InputError: For an unknown name; it lists the known ones.

    Example:
        >>> get_paper("residual_alignment").reference
        'Jianing Li and Vardan Papyan, NeurIPS 2023'
    """
    if name not in NAMES:
        raise InputError(f"got the paper '{name}', expected one of {', '.join(NAMES)}.{did_you_mean(name, NAMES)}")
    found: Paper = importlib.import_module(f"resdyn.papers.{name}").PAPER
    return found
