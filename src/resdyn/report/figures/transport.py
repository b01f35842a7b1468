"""A mean transport over depth: its size, what it is made of, its spectrum, and what it reads."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.transport_store import transport_structures
from resdyn.report.figures.profile import whole_ticks
from resdyn.report.theme import (
    MARKERS,
    PALETTE,
    SYMBOLS,
    colour_scale,
    figure,
    log_axis,
    log_ticks,
    menu,
    paper_style,
)
from resdyn.report.view import Array

Line = tuple[str, Array, Array | None]  # legend, values by depth, their errors
COLOURS = (PALETTE[0], PALETTE[6], PALETTE[4])
X_TITLE = "depth l of the state"
MAX_CHOICES = 40
NOISE = PALETTE[8]


def transport_size(ds: xr.Dataset) -> go.Figure | None:
    """Largest, root mean square and mean (alpha) stretch of J_l against depth, on a logarithmic scale.

    Args:
        ds: A stored transport.

    Returns:
        A plotly figure; None without transports.
    """
    return _draw(ds, _sizes(ds), "stretch", log=True) if "transport" in ds else None


def transport_size_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `transport_size` for print.

    Args:
        ds: A stored transport.

    Returns:
        A matplotlib figure; None without transports.
    """
    return _draw_paper(ds, _sizes(ds), "stretch", log=True) if "transport" in ds else None


def transport_parts(ds: xr.Dataset) -> go.Figure | None:
    """Share of the identity, and of the error of the mean in the rest, against depth.

    Args:
        ds: A stored transport.

    Returns:
        A plotly figure; None without transports, or where neither is defined.
    """
    lines = _parts(ds) if "transport" in ds else []
    return _draw(ds, lines, "share of the squared norm") if lines else None


def transport_parts_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `transport_parts` for print.

    Args:
        ds: A stored transport.

    Returns:
        A matplotlib figure; None without transports, or where neither is defined.
    """
    lines = _parts(ds) if "transport" in ds else []
    return _draw_paper(ds, lines, "share of the squared norm") if lines else None


def transport_ranks(ds: xr.Dataset) -> go.Figure | None:
    """Effective and stable rank of the rest, and how many of its values stand out of the noise, against depth.

    Args:
        ds: A stored transport.

    Returns:
        A plotly figure; None without transports, or where none is defined.
    """
    lines = _ranks(ds) if "transport" in ds else []
    return _draw(ds, lines, "directions") if lines else None


def transport_ranks_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `transport_ranks` for print.

    Args:
        ds: A stored transport.

    Returns:
        A matplotlib figure; None without transports, or where none is defined.
    """
    lines = _ranks(ds) if "transport" in ds else []
    return _draw_paper(ds, lines, "directions") if lines else None


def transport_overlap(ds: xr.Dataset) -> go.Figure | None:
    """Mean squared cosine between what consecutive depths read most, and what random directions have.

    Args:
        ds: A stored transport.

    Returns:
        A plotly figure; None without transports, or where no two depths can be compared.
    """
    lines = _overlaps(ds) if "transport" in ds else []
    return _draw(ds, lines, "mean squared cosine", top=1.05) if lines else None


def transport_overlap_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `transport_overlap` for print.

    Args:
        ds: A stored transport.

    Returns:
        A matplotlib figure; None without transports, or where no two depths can be compared.
    """
    lines = _overlaps(ds) if "transport" in ds else []
    return _draw_paper(ds, lines, "mean squared cosine") if lines else None


def transport_spectrum(ds: xr.Dataset) -> go.Figure | None:
    """Singular values of J_l - alpha I at every depth, and of each depth alone beside those of noise.

    Args:
        ds: A stored transport.

    Returns:
        A plotly figure; None without transports.
    """
    if "transport" not in ds:
        return None
    depths, spectra, noise = _spectra(ds)
    together, alone = _together(depths, spectra), []
    for depth, values, drawn in zip(depths[:MAX_CHOICES], spectra, noise, strict=False):
        rest = _curve(values, f"J − αI at depth {depth}", COLOURS[0])
        alone.append([rest, _curve(drawn, "one draw of its error", NOISE, dash="dash")])
    traces = [*together, *(trace for pair in alone for trace in pair)]
    shown = figure(traces, height=400)
    shown.update_xaxes(title_text="rank")
    shown.update_yaxes(title_text="singular value", exponentformat="power", **log_ticks(_positive(spectra)))
    groups = [len(together), *(len(pair) for pair in alone)]
    _visible(shown, groups, 0)
    if alone:
        labels = ["all depths", *(f"depth {depth}" for depth in depths[:MAX_CHOICES])]
        shown.update_layout(updatemenus=menu(labels, [[_group(groups, k), {}] for k in range(len(groups))]))
    return shown


def transport_spectrum_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `transport_spectrum` for print: all depths.

    Args:
        ds: A stored transport.

    Returns:
        A matplotlib figure; None without transports.
    """
    if "transport" not in ds:
        return None
    depths, spectra, _ = _spectra(ds)
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.6))
        axis = drawn.subplots()
        for k, (depth, values) in enumerate(zip(depths, spectra, strict=True)):
            axis.plot(np.arange(1, len(values) + 1), _positive(values), color=_shade(k, len(depths)), label=str(depth))
        axis.set(xlabel="rank", ylabel="singular value of J − αI")
        log_axis(axis)
        if len(depths) <= 8:
            axis.legend(title="depth")
    return drawn


def _sizes(ds: xr.Dataset) -> list[Line]:
    found, root = transport_structures(ds), ds.sizes["row"] ** 0.5
    lines: list[Line] = [
        ("largest singular value", found["singular_value"].values[:, 0], None),
        ("root mean square, |J| / √d", found["norm"].values / root, found["norm_error"].values / root),
        ("α, the identity's multiple", found["alpha"].values, found["alpha_error"].values),
    ]
    return _drawable([(name, np.where(values > 0, values, np.nan), error) for name, values, error in lines])


def _parts(ds: xr.Dataset) -> list[Line]:
    found = transport_structures(ds)
    return _drawable(
        [
            ("identity in J", found["identity_share"].values, None),
            ("noise in J − αI", found["noise_share"].values, None),
        ]
    )


def _ranks(ds: xr.Dataset) -> list[Line]:
    found = transport_structures(ds)
    names = (("effective_rank", "effective rank"), ("stable_rank", "stable rank"), ("resolved", "above the noise"))
    return _drawable([(legend, found[name].values, None) for name, legend in names])


def _overlaps(ds: xr.Dataset) -> list[Line]:
    found = transport_structures(ds)
    lines = _drawable([("with the next depth", found["overlap"].values, None)])
    return [*lines, ("random directions", found["overlap_by_chance"].values, None)] if lines else []


def _drawable(lines: list[Line]) -> list[Line]:
    return [line for line in lines if np.isfinite(line[1]).any()]


def _draw(ds: xr.Dataset, lines: list[Line], title: str, log: bool = False, top: float | None = None) -> go.Figure:
    depths = ds["depth"].values
    traces = [
        go.Scatter(
            x=depths,
            y=values,
            error_y=None if error is None else {"type": "data", "array": np.nan_to_num(error), "width": 3},
            mode="lines+markers",
            name=legend,
            line={"color": COLOURS[k], "width": 2},
            marker={"size": 6, "symbol": SYMBOLS[k]},
            hovertemplate="depth %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
        for k, (legend, values, error) in enumerate(lines)
    ]
    drawn = figure(traces, height=360)
    drawn.update_xaxes(title_text=X_TITLE, **whole_ticks(depths))
    scale = log_ticks(np.concatenate([values for _, values, _ in lines])) if log else {"rangemode": "tozero"}
    drawn.update_yaxes(title_text=title, **scale)
    if top is not None:
        drawn.update_yaxes(range=[0, top])
    return drawn


def _draw_paper(ds: xr.Dataset, lines: list[Line], title: str, log: bool = False) -> mf.Figure:
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.6))
        axis = drawn.subplots()
        for k, (legend, values, error) in enumerate(lines):
            bars = None if error is None else np.nan_to_num(error)
            axis.errorbar(ds["depth"].values, values, bars, color=COLOURS[k], marker=MARKERS[k], label=legend)
        axis.set(xlabel=X_TITLE, ylabel=title)
        if log:
            log_axis(axis)
        else:
            axis.set_ylim(bottom=0)
        axis.legend()
    return drawn


def _spectra(ds: xr.Dataset) -> tuple[list[int], Array, Array]:
    found = transport_structures(ds)
    depths = [int(depth) for depth in found["depth"].values]
    return depths, found["residual_singular_value"].values, found["noise_singular_value"].values


def _together(depths: list[int], spectra: Array) -> list[go.Scatter]:
    return [
        _curve(values, f"depth {depth}", _shade(k, len(depths)))
        for k, (depth, values) in enumerate(zip(depths, spectra, strict=True))
    ]


def _curve(values: Array, name: str, colour: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=np.arange(1, len(values) + 1),
        y=_positive(values).astype(np.float32),
        mode="lines",
        name=name,
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate="rank %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    )


def _positive(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)


def _shade(k: int, count: int) -> str:
    """From the light end of the scale to its dark end, without the ends that vanish on paper or screen."""
    scale = colour_scale()
    return str(scale[3 + round((len(scale) - 7) * k / max(1, count - 1))][1])


def _group(groups: list[int], chosen: int) -> dict[str, list[bool]]:
    return {"visible": [shown for k, size in enumerate(groups) for shown in [k == chosen] * size]}


def _visible(drawn: go.Figure, groups: list[int], chosen: int) -> None:
    for trace, shown in zip(drawn.data, _group(groups, chosen)["visible"], strict=True):
        trace.visible = shown
