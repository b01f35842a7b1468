"""Several quantities as lines in one figure: what the collapse and training figures share."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.axes as ma
import numpy as np
import plotly.graph_objects as go

from resdyn.report.theme import PALETTE, log_axis, log_ticks

COLOURS = (PALETTE[0], PALETTE[6], PALETTE[4])


@dataclass(frozen=True)
class Panel:
    """Which quantities share one figure, as (name, legend) pairs, and their vertical axis."""

    title: str
    y_title: str
    lines: tuple[tuple[str, str], ...]
    log: bool = False

    def drawable(self, values: np.ndarray) -> np.ndarray:
        """The values that the axis can show; the others become gaps."""
        return np.where(values > 0, values, np.nan) if self.log else values

    def scale(self, drawn: go.Figure, low: float, high: float) -> go.Figure:
        """Set the vertical axis: its title, and logarithmic, or from `low` to `high`."""
        drawn.update_yaxes(title_text=self.y_title)
        if self.log:
            return drawn.update_yaxes(**log_ticks(np.concatenate([np.asarray(trace.y, float) for trace in drawn.data])))
        return drawn.update_yaxes(range=[low, high])

    def scale_paper(self, axis: ma.Axes, low: float, high: float) -> None:
        """The same for a paper figure, with its legend."""
        axis.set_ylabel(self.y_title)
        if self.log:
            log_axis(axis)
        else:
            axis.set_ylim(low, high)
        axis.legend()
