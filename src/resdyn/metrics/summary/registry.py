"""What a phenomenon adds to the metrics table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from resdyn.errors import InputError
from resdyn.metrics.summary.metric import Metric
from resdyn.phenomena import Phenomenon, phenomena

Text = tuple[str, str, str]


@dataclass(frozen=True)
class Summary:
    """The rows of the metrics table that a phenomenon adds.

    Attributes:
        rows: Called with a dataset that holds the phenomenon; yields `Metric`s, made by `over_samples` or `one_number`.
        texts: Of each metric its title, how to read it, and its source (may be empty).
        options: Options of `summarize` that `rows` takes by keyword.
    """

    rows: Callable[..., Iterable[Metric]]
    texts: Mapping[str, Text]
    options: tuple[str, ...] = ()

    def of(self, ds: xr.Dataset, **options: Any) -> Iterator[Metric]:
        """The rows with their texts.

        Args:
            ds: A dataset that holds the phenomenon.
            **options: The options of `summarize`; `rows` is given those that it takes.

        Yields:
            One `Metric` per row, with title, reading and source.

        Raises:
            InputError: `rows` yields something else than described metrics, or takes an option that is not given.
        """
        if unknown := set(self.options) - set(options):
            raise InputError(f"got the option {sorted(unknown)[0]!r} of a summary, expected {', '.join(options)}")
        for metric in self.rows(ds, **{name: options[name] for name in self.options}):
            if not isinstance(metric, Metric) or metric.name not in self.texts:
                got = metric.name if isinstance(metric, Metric) else type(metric).__name__
                known = ", ".join(self.texts)
                raise InputError(f"got the row '{got}' of a summary, expected a Metric of its texts: {known}")
            title, reading, source = self.texts[metric.name]
            yield replace(metric, title=title, reading=reading, source=source)


def summary_of(phenomenon: Phenomenon) -> Summary | None:
    """The summary of a phenomenon, or None.

    Raises:
        InputError: It is registered with something else, or its texts are not (title, reading, source).
    """
    found = phenomenon.load("metrics")
    if found is None or found == ():
        return None
    if not isinstance(found, Summary):
        raise InputError(f"{phenomenon.name}: got metrics={type(found).__name__}, expected a resdyn.metrics.Summary")
    for name, text in found.texts.items():
        if not isinstance(text, tuple) or len(text) != 3 or not all(isinstance(part, str) for part in text):
            raise InputError(f"{phenomenon.name}: got {text!r} for '{name}', expected (title, how to read it, source)")
    return found


def descriptions() -> dict[str, Text]:
    """What is said of every metric that is known without importing a plug-in.

    Returns:
        (title, how to read it, source) by the metric's name.
    """
    texts: dict[str, Text] = {}
    for phenomenon in phenomena():
        summary = summary_of(phenomenon)
        if summary is not None:
            texts |= {name: text for name, text in summary.texts.items() if name not in texts}
    return texts
