"""Eigenvalues of the blocks: the stiffness index and the share of negative real parts, and what they leave out."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.eigenvalues import READINGS, determined, stiffness
from resdyn.metrics.parts import block_names
from resdyn.report.figures.profile import tick_step, whole_ticks
from resdyn.report.theme import (
    ACCENT,
    PALETTE,
    SECOND,
    figure,
    log_axis,
    log_ticks,
    menu,
    one_visible,
    paper_style,
    plain,
)
from resdyn.report.view import Array, has, sample_title

COLOURS = {"flattened": ACCENT, "slices": SECOND}
NAMES = {"flattened": "the Jacobian (flattened)", "slices": "its slices (as in the paper)"}
LINES = (
    ("jacobian_norm", "norm", PALETTE[2]),
    ("spectral_radius", "largest modulus of an eigenvalue", PALETTE[0]),
    ("numerical_abscissa", "numerical abscissa", PALETTE[1]),
    ("largest_real", "largest real part", PALETTE[4]),
)
MAX_CLOUDS = 12


@dataclass(frozen=True)
class Line:
    """Values (sample, block) of one quantity."""

    name: str
    values: Array
    colour: str
    sign: str = ""

    @property
    def quartiles(self) -> tuple[Array, Array, Array, Array]:
        """First quartile, median, third quartile and number of known values of each block."""
        known = np.isfinite(self.values)
        found = np.full((3, self.values.shape[1]), np.nan)
        for block in np.flatnonzero(known.any(axis=0)):
            found[:, block] = np.quantile(self.values[known[:, block], block], (0.25, 0.5, 0.75))
        return (*found, known.sum(axis=0))


def stiffness_index(ds: xr.Dataset) -> go.Figure | None:
    """Size of the index per block by both readings, logarithmic: medians over samples, quartiles as bars.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the spectrum probe.
    """
    lines = _index_lines(ds)
    return _draw(ds, lines, "max Re λ / min Re λ" if _sign(lines) else "|max Re λ / min Re λ|", log=True)


def stiffness_index_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `stiffness_index` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the spectrum probe.
    """
    return _draw_paper(ds, _index_lines(ds), "stiffness index", log=True)


def negative_share(ds: xr.Dataset) -> go.Figure | None:
    """Per cent of eigenvalues with negative real part per block by both readings: medians and quartiles.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the spectrum probe.
    """
    return _draw(ds, _negative_lines(ds), "negative real parts, %")


def negative_share_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `negative_share` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the spectrum probe.
    """
    return _draw_paper(ds, _negative_lines(ds), "negative real parts, %")


def nonnormality(ds: xr.Dataset) -> go.Figure | None:
    """Norm, spectral radius, numerical abscissa and largest real part per block: medians and quartiles.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the spectrum probe.
    """
    return _draw(ds, _nonnormal_lines(ds), "value", log=False)


def nonnormality_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `nonnormality` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the spectrum probe.
    """
    return _draw_paper(ds, _nonnormal_lines(ds), "value")


def eigenvalue_plane(ds: xr.Dataset) -> go.Figure | None:
    """The eigenvalues of single blocks at the first samples in the complex plane, one at a time.

    Of blocks whose eigenvalues are all stored, the last block first; at most 12 entries in the drop-down.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None where no block has all its eigenvalues stored.
    """
    clouds = _clouds(ds)
    if not clouds:
        return None
    angle = np.linspace(0, 2 * np.pi, 181)
    circle = go.Scatter(
        x=np.cos(angle),
        y=np.sin(angle),
        mode="lines",
        name="|λ| = 1",
        hoverinfo="skip",
        line={"color": PALETTE[3], "width": 1},
    )
    dots = [_cloud(title, values, number == 0) for number, (title, values) in enumerate(clouds)]
    drawn = figure([*dots, circle], height=460)
    drawn.update_xaxes(title_text="real part")
    drawn.update_yaxes(title_text="imaginary part", scaleanchor="x")
    drawn.add_vline(x=0, line={"color": PALETTE[3], "width": 1, "dash": "dot"})
    if len(clouds) > 1:
        args = [[{"visible": [*one_visible(k, len(clouds))["visible"], True]}, {}] for k in range(len(clouds))]
        drawn.update_layout(updatemenus=menu([plain(title) for title, _ in clouds], args))
    return drawn


def eigenvalue_plane_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `eigenvalue_plane` for print.

    The first entry of the drop-down.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None where no block has all its eigenvalues stored.
    """
    clouds = _clouds(ds)
    if not clouds:
        return None
    title, values = clouds[0]
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.8))
        axis = drawn.subplots()
        angle = np.linspace(0, 2 * np.pi, 181)
        axis.plot(np.cos(angle), np.sin(angle), color=PALETTE[3], linewidth=0.6)
        axis.axvline(0, color=PALETTE[3], linewidth=0.6, linestyle=":")
        axis.plot(values.real, values.imag, ".", color=ACCENT, markersize=1.5, alpha=0.6)
        axis.set(xlabel="real part", ylabel="imaginary part", title=title)
        axis.set_aspect("equal", adjustable="datalim")
    return drawn


def _index_lines(ds: xr.Dataset) -> list[Line]:
    return _reading_lines(ds, "stiffness_index", np.abs)


def _negative_lines(ds: xr.Dataset) -> list[Line]:
    return _reading_lines(ds, "percent_negative", np.asarray)


def _reading_lines(ds: xr.Dataset, quantity: str, shown) -> list[Line]:
    if not has(ds, "largest_real") and not has(ds, "largest_real_slices"):
        return []
    measured = stiffness(ds)
    names = [(reading, f"{quantity}_{reading}") for reading in READINGS]
    return [
        _line(NAMES[reading], measured[name].transpose("sample", "block").values, COLOURS[reading], shown)
        for reading, name in names
        if name in measured and np.isfinite(measured[name].values).any()
    ]


def _line(name: str, values: Array, colour: str, shown) -> Line:
    """The sizes that an axis can show, with the sign that all of them have."""
    known = values[np.isfinite(values)]
    return Line(name, shown(values), colour, "−" if known.size and (known < 0).all() else "")


def _sign(lines: list[Line]) -> str:
    """The sign in front of the ticks: that of all values, if they have one."""
    return "−" if all(line.sign for line in lines) else ""


def _nonnormal_lines(ds: xr.Dataset) -> list[Line]:
    if not has(ds, "largest_real"):
        return []
    return [
        Line(title, determined(ds, name).transpose("sample", "block").values, colour) for name, title, colour in LINES
    ]


def _clouds(ds: xr.Dataset) -> list[tuple[str, Array]]:
    """(title, eigenvalues) of blocks whose eigenvalues are all stored, at as many samples as the page can hold."""
    if not has(ds, "eigenvalues_real"):
        return []
    real, imaginary = (
        ds[name].transpose("sample", "block", "eigenvalue").values for name in ("eigenvalues_real", "eigenvalues_imag")
    )
    blocks = np.flatnonzero(np.isfinite(real).any(axis=(0, 2)))[::-1]
    names = block_names(ds)
    pairs = [(s, b) for s in range(len(real)) for b in blocks][:MAX_CLOUDS]
    return [(f"block {names[b]}, {sample_title(ds, s)}", _known(real[s, b] + 1j * imaginary[s, b])) for s, b in pairs]


def _known(values: Array) -> Array:
    return values[np.isfinite(values)]


def _cloud(title: str, values: Array, visible: bool) -> go.Scatter:
    """Distinct dots only: the zeros coincide."""
    points, counts = np.unique(np.round(values.astype(np.complex64), 4), return_counts=True)
    return go.Scatter(
        x=points.real.astype(np.float32),
        y=points.imag.astype(np.float32),
        customdata=counts,
        mode="markers",
        name="eigenvalues",
        visible=visible,
        marker={"color": ACCENT, "size": 4, "opacity": 0.6},
        hovertemplate=plain(title) + "<br>%{x:.4f} %{y:+.4f} i<br>%{customdata} times<extra></extra>",
    )


def _draw(ds: xr.Dataset, lines: list[Line], title: str, log: bool = False) -> go.Figure | None:
    if not lines:
        return None
    traces = []
    for line in lines:
        low, middle, high, count = line.quartiles
        bars = {
            "type": "data",
            "symmetric": False,
            "array": np.nan_to_num(high - middle),
            "arrayminus": np.nan_to_num(middle - low),
            "thickness": 1.2,
            "width": 3,
        }
        traces.append(
            go.Scatter(
                x=ds["block"].values,
                y=middle,
                error_y=bars,
                customdata=np.stack([low, high, count], axis=-1),
                mode="lines+markers",
                name=line.name,
                line={"color": line.colour, "width": 2},
                marker={"size": 7},
                text=[plain(name, 60) for name in block_names(ds)],
                hovertemplate=_hover(line),
            )
        )
    drawn = figure(traces, height=400)
    drawn.update_xaxes(title_text="block, counted from 0", **whole_ticks(ds["block"].values))
    drawn.update_yaxes(title_text=title)
    if log:
        shown = np.concatenate([part for line in lines for part in line.quartiles[:3]])
        return drawn.update_yaxes(**log_ticks(shown, _sign(lines)))
    return drawn.update_yaxes(rangemode="tozero")


def _hover(line: Line) -> str:
    ends = f"{line.sign}%{{customdata[0]:.4g}} to {line.sign}%{{customdata[1]:.4g}}"
    known = f"{line.sign}%{{y:.4g}} (quartiles {ends}, n = %{{customdata[2]}})"
    return f"block %{{text}}<br>{known}<extra>{line.name}</extra>"


def _draw_paper(ds: xr.Dataset, lines: list[Line], title: str, log: bool = False) -> mf.Figure | None:
    if not lines:
        return None
    with paper_style():
        drawn = mf.Figure(figsize=(3.5, 2.5))
        axis = drawn.subplots()
        for line in lines:
            low, middle, high, _ = line.quartiles
            bars = np.nan_to_num(np.stack([middle - low, high - middle]))
            axis.errorbar(ds["block"].values, middle, bars, color=line.colour, marker="o", capsize=2, label=line.name)
        axis.set(xlabel="block, counted from 0", ylabel=title)
        axis.set_xticks(ds["block"].values[:: tick_step(ds.sizes["block"])])
        if log:
            log_axis(axis, _sign(lines))
        axis.legend()
    return drawn
