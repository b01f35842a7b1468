"""What an experiment found, with its provenance, as one JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from resdyn.errors import InputError
from resdyn.provenance import machine, versions
from resdyn.store import whole_file

DIGITS = 5  # significant digits of numbers in a result file that are not whole


@dataclass(frozen=True)
class Number:
    """A measured number: a mean over `n` values, and how sure it is.

    Attributes:
        value: The mean; None where nothing finite was measured.
        error: Its standard error, spread / sqrt(n); None for one value.
        spread: The standard deviation of the values (n - 1 in the denominator); None for one value.
        n: How many finite values there were.
        over: What they range over, such as "samples".
        note: What else a reader must know of it.

    Example:
        >>> Number.of([1.0, 2.0, 3.0, float("nan")], over="samples")
        Number(value=2.0, error=0.57735, spread=1.0, n=3, over='samples', note='')
    """

    value: float | None
    error: float | None = None
    spread: float | None = None
    n: int = 1
    over: str = ""
    note: str = ""

    @classmethod
    def of(cls, values: ArrayLike, over: str = "", note: str = "") -> Number:
        """The mean of the finite ones among some values.

        Args:
            values: Of any shape; numbers that are not whole are kept to five significant digits.
            over: What they range over.
            note: What else a reader must know; "not measured" where no value is finite and nothing is said.
        """
        known = np.asarray(values, dtype=np.float64).ravel()
        known = known[np.isfinite(known)]
        if not known.size:
            return cls(None, n=0, over=over, note=note or "not measured")
        spread = float(known.std(ddof=1)) if known.size > 1 else None
        error = None if spread is None else _rounded(spread / known.size**0.5)
        return cls(_rounded(float(known.mean())), error, _rounded(spread), int(known.size), over, note)

    @classmethod
    def known(cls, value: float, error: float | None, n: int, over: str = "", note: str = "") -> Number:
        """A number whose error was found otherwise than as that of a mean.

        Args:
            value: The number.
            error: Its standard error, over `n` values. None: not known.
            n: Of how many values the error is.
            over: What they range over.
            note: What else a reader must know.
        """
        if not math.isfinite(value):
            return cls(None, n=0, over=over, note=note or "not measured")
        error = None if error is None or not math.isfinite(error) else error
        return cls(_rounded(value), _rounded(error), None, n if error is not None else 1, over, note)


@dataclass
class Result:
    """What an experiment found at one scale.

    Attributes:
        paper: Name of the paper.
        experiment: Name of the experiment.
        scale: "tiny", "small" or "paper".
        path: Its JSON file, which does not hold the path.
        null: Whether every network was left untrained: what the claims' numbers are where training did nothing.
        part: The networks that it was run for, by label; empty: all of the experiment's.
        complete: Whether the experiment ran to its end.
        numbers: By the keys that claims refer to.
        pictures: What figures are drawn from, by key (see `resdyn.papers.pictures`).
        networks: The networks behind the numbers, by name: recipe, data, accuracies.
        provenance: How, from which commit, where and with what the result was made, and how many `seconds` it took.
    """

    paper: str
    experiment: str
    scale: Any
    path: Path
    null: bool = False
    part: list[str] = field(default_factory=list)
    complete: bool = False
    numbers: dict[str, Number] = field(default_factory=dict)
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def save_result(result: Result) -> None:
    """Write the file as a whole or not at all."""
    content = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name != "path"}
    content["numbers"] = {key: _compact(number) for key, number in result.numbers.items()}
    if not result.part:
        del content["part"]
    write_whole(result.path, _text(content))


def write_whole(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def load_results(folders: Iterable[Path], paper: str) -> list[Result]:
    """All results of a paper in some folders; of the same experiment, scale, null and part, the later folder's.

    Args:
        folders: Hold result files, `*.json`; one that is not there holds none.
        paper: Name of the paper; results of others are passed over.

    Returns:
        One result per experiment, scale and part, and one more of its null where there is one.

    Raises:
        InputError: For a JSON file that is not a result; it names the file.
    """
    found: dict[tuple[Any, ...], Result] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            result = _load(path)
            if result.paper == paper:
                key = (result.experiment, result.scale, result.null, tuple(result.part))
                found.pop(key, None)  # so that the later one comes after all that were there
                found[key] = result
    return list(found.values())


def provenance(seed: int) -> dict[str, Any]:
    """How, from which commit, where and with what a result is made."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "command": shlex.join(["resdyn", *sys.argv[1:]]),
        "commit": _commit(),
        "seed": seed,
        "machine": machine(device),
        "versions": versions(),
    }


def _load(path: Path) -> Result:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["numbers"] = {key: Number(**number) for key, number in content["numbers"].items()}
        return Result(**content, path=path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"'{path}' is not the result of a paper's experiment ({error}): move it away") from error


def _compact(number: Number) -> dict[str, Any]:
    content = dataclasses.asdict(number)
    return {name: value for name, value in content.items() if value not in (None, "") or name == "value"}


def _text(content: dict[str, Any]) -> str:
    """JSON with one line for each number, picture and network: small, and readable where it differs."""

    def plain(value: Any) -> str:
        return json.dumps(value, allow_nan=False, default=str)

    def entry(value: Any) -> str:
        if not isinstance(value, dict) or not value:
            return plain(value)
        return "{\n" + ",\n".join(f"  {plain(k)}: {plain(v)}" for k, v in value.items()) + "\n }"

    return "{\n" + ",\n".join(f" {plain(k)}: {entry(v)}" for k, v in content.items()) + "\n}\n"


def _rounded(value: float | None) -> float | None:
    """To so many digits; counts stay exact."""
    if value is None or not math.isfinite(value):
        return None
    return value if value.is_integer() else float(f"{value:.{DIGITS}g}")


def _commit() -> str:
    """The commit of the checkout that this package runs from, if it is one."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    if not commit:
        return "unknown"
    return f"{commit} with changes" if changed else commit
