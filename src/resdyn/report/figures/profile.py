"""A quantity against depth: faint lines for samples, a bold line for their mean with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go

from resdyn.report.theme import ACCENT, PALETTE, figure, paper_style, plain
from resdyn.report.view import Array, mean_and_error

MAX_LINES = 60
FAINT = PALETTE[8]
MEAN_STYLE: dict[str, Any] = {"color": ACCENT, "marker": "o", "linewidth": 1.5, "capsize": 2}
MEAN_HOVER = "%{y:.4g} ± %{customdata[0]:.2g} (n = %{customdata[1]})<extra></extra>"


@dataclass(frozen=True)
class Profile:
    """Values (sample, depth) and how to label them; `names` of the places, where numbers do not say enough.

    `complete`: values are missing for what they are, so that a mean over the others would be of the larger ones: there
    is a mean only where every sample has a value.
    """

    depth: Array
    values: Array
    sample_ids: list[int]
    x_title: str
    y_title: str
    names: list[str] | None = None
    complete: bool = False

    def mean_and_error(self) -> tuple[Array, Array, Array]:
        """Mean over samples, its standard error and count, per place."""
        values = self.values
        return mean_and_error(np.where(np.isnan(values).any(axis=0), np.nan, values) if self.complete else values)

    @property
    def texts(self) -> list[str]:
        """What every place on the horizontal axis is called on hover: its name, else its number."""
        return [str(number) for number in self.depth] if self.names is None else [plain(n, 60) for n in self.names]


def draw(profile: Profile, **yaxis) -> go.Figure:
    """The profile as a plotly figure; at most `MAX_LINES` samples are drawn, the mean is over all."""
    mean, error, n = profile.mean_and_error()
    traces = [_samples(profile)] if len(profile.values) > 1 else []
    traces.append(
        go.Scatter(
            x=profile.depth,
            y=mean,
            error_y={"type": "data", "array": np.nan_to_num(error), "thickness": 1.2, "width": 3},
            customdata=np.stack([error, n], axis=-1),
            mode="lines+markers",
            name=f"mean of {int(n.max())}" if len(profile.values) > 1 else f"sample {profile.sample_ids[0]}",
            line={"color": ACCENT, "width": 2.5},
            marker={"size": 7},
            text=profile.texts,
            hovertemplate=f"%{{text}}<br>{MEAN_HOVER}",
        )
    )
    drawn = figure(traces, height=360)
    drawn.update_xaxes(title_text=profile.x_title, **whole_ticks(profile.depth))
    drawn.update_yaxes(title_text=profile.y_title, **yaxis)
    return drawn


def draw_paper(profile: Profile, **axis_settings) -> mf.Figure:
    mean, error, _ = profile.mean_and_error()
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.4))
        axis = drawn.subplots()
        if len(profile.values) > 1:
            axis.plot(profile.depth, profile.values[:MAX_LINES].T, color=FAINT, alpha=0.35, linewidth=0.5)
        axis.errorbar(profile.depth, mean, np.nan_to_num(error), **MEAN_STYLE)
        axis.set(xlabel=profile.x_title, ylabel=profile.y_title, **axis_settings)
        axis.set_xticks(profile.depth[:: tick_step(len(profile.depth))])
    return drawn


def _samples(profile: Profile) -> go.Scatter:
    """All samples as one faint line, broken by NaN."""
    shown = profile.values[:MAX_LINES]
    broken = np.concatenate([shown, np.full((len(shown), 1), np.nan)], axis=1).ravel()
    width = len(profile.depth) + 1
    return go.Scatter(
        x=np.tile(np.append(profile.depth, profile.depth[-1]), len(shown)),
        y=broken.astype(np.float32),
        customdata=np.repeat(profile.sample_ids[:MAX_LINES], width),
        mode="lines",
        name="each sample" if len(shown) == len(profile.values) else f"first {len(shown)} samples",
        line={"color": FAINT, "width": 1},
        opacity=0.45,
        hovertemplate="sample %{customdata}<br>%{x}: %{y:.4g}<extra></extra>",
    )


def whole_ticks(numbers: Array) -> dict[str, Any]:
    """Range and tick distance of an axis that counts depths or blocks."""
    return {"range": [numbers[0] - 0.5, numbers[-1] + 0.5], "dtick": tick_step(len(numbers))}


def tick_step(count: int) -> int:
    """Distance of ticks that leaves at most twenty of them."""
    return 1 if count <= 20 else -(-count // 12)
