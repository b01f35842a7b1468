"""What the commands say: tables for people on the terminal, one JSON object for programs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from resdyn._format import with_error

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from rich.console import Console

    from resdyn.stream import ResidualStream

PROVENANCE = (
    "model",
    "weights_hash",
    "data",
    "split",
    "samples",
    "kind",
    "dtype",
    "batch_norm",
    "nonsquare",
    "seed",
    "probes",
    "feature_samples",
    "versions",
    "machine",
    "command",
    "notes",
    "complete",
)
_reserved: ContextVar[TextIO | None] = ContextVar("reserved", default=None)


@contextlib.contextmanager
def reserved_for_json() -> Iterator[None]:
    """Only `print_json` writes to standard output; all else that is printed goes to standard error.

    What the process itself and its children write to the descriptor of standard output goes there too.
    """
    with _own_descriptor(sys.stdout) as out:
        token = _reserved.set(out)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
            out.flush()
        finally:
            _reserved.reset(token)


def end_output() -> None:
    """What the process prints while it ends, such as the exit handlers of a model's code, is not part of the output."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


@contextlib.contextmanager
def _own_descriptor(stream: TextIO) -> Iterator[TextIO]:
    """The file of a stream under a descriptor of its own, while the stream's leads to standard error."""
    try:
        number, errors = stream.fileno(), sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # no file: a notebook's, or a test's
        yield stream
        return
    stream.flush()
    with os.fdopen(os.dup(number), "w", encoding="utf-8") as own:
        os.dup2(errors, number)
        try:
            yield own
        finally:
            stream.flush()
            os.dup2(own.fileno(), number)


def results(dataset: xr.Dataset, paths: dict[str, Path], null: xr.Dataset | None = None) -> dict[str, Any]:
    """Conclusion, verdicts, metrics, paths and provenance as plain data."""
    from resdyn.metrics import conclusion, metrics_table, verdicts

    found = verdicts(dataset, null)
    return {
        "conclusion": conclusion(found, null is not None),
        "verdicts": [verdict.as_row() for verdict in found],
        "metrics": metrics_table(dataset),
        "paths": {name: str(path) for name, path in paths.items()},
        "provenance": {name: dataset.attrs[name] for name in PROVENANCE if name in dataset.attrs},
    }


def print_json(content: dict[str, Any]) -> None:
    """One JSON object on standard output; an infinite number is the text "Infinity", as most languages read it."""
    print(json.dumps(_strict(content), indent=2, allow_nan=False, default=str), file=_reserved.get())


def _strict(value: Any) -> Any:
    """The same content with what JSON has no numbers for as text, or null where nothing is defined."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def print_stream(stream: ResidualStream, notes: tuple[str, ...]) -> None:
    """The stream's table, and what a reader must know."""
    print(stream)
    for note in notes:
        print(f"\nnote: {note}")


def terminal(*, stderr: bool = False) -> Console:
    """Where a person reads. Emoji are off: `file.py:factory:` is not a picture of a factory."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=stderr, emoji=False)


def say(message: str, quiet: bool = False) -> None:
    """One line for the person who waits, on standard error."""
    if not quiet:
        terminal(stderr=True).print(message, markup=False)


def print_summary(summary: dict[str, Any], paths: dict[str, Path], extra: dict[str, Any]) -> None:
    """The metrics as a table, the verdicts, and where everything was written."""
    from resdyn.metrics.summary import chance_text

    console = terminal()
    metrics = [
        {
            "metric": row["title"],
            "value": row["missing"] if row["value"] is None else with_error(row["value"], row["standard_error"]),
            "by chance": chance_text(row["chance"]),
            "where": row["where"] or "",
            "how to read it": row["reading"],
        }
        for row in summary["metrics"]
    ]
    print_table(metrics, right=("value", "by chance"))
    if summary["verdicts"]:
        console.print()
        print_table(
            [{"verdict": v["verdict"], "property": v["title"], "why": v["reason"]} for v in summary["verdicts"]]
        )
        console.print(f"\n{summary['conclusion']}\n", markup=False)
    for name, value in extra.items():
        console.print(f"{name.replace('_', ' ')}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    for name, path in paths.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)


def print_table(
    rows: pd.DataFrame | Sequence[Mapping[str, str]],
    *,
    title: str | None = None,
    right: Container[str] = (),
    typed: Mapping[str, Sequence[str]] | None = None,
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print a table of text without lines, wrapped to the width of the terminal; nothing is ever cut.

    The columns named in `right` are aligned to the right. `typed` are the words by column that a person has to type: a
    narrow terminal breaks the other columns first. `styles` are those of cells that begin with a word.
    """
    import pandas as pd
    from rich.table import Table
    from rich.text import Text

    frame = pd.DataFrame(rows) if len(rows) else pd.DataFrame({"": ["none"]})
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = Text(title, "table.title") if title else None
    for column in frame:
        longest = max(map(len, (typed or {}).get(column, ())), default=None)
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", min_width=longest)
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(cell, (styles or {}).get(cell.split(",")[0], "")) for cell in row))  # no markup in cells
    terminal().print(table, crop=False)
