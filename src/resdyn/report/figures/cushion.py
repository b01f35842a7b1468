"""Noise stability: cushions of layers and blocks, against depth and as histograms."""

from __future__ import annotations

import matplotlib.figure as mf
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from resdyn.metrics.cushion import cushions
from resdyn.metrics.parts import block_names
from resdyn.report.figures import profile
from resdyn.report.theme import ACCENT, PALETTE, SECOND, figure, paper_style
from resdyn.report.view import Array, has, sample_ids

COLOURS = (ACCENT, SECOND, PALETTE[4])
BINS = 24


def layer_cushion(ds: xr.Dataset) -> go.Figure | None:
    """Layer cushion of every layer, in order through the branches: samples, their mean and its error.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the cushion probe.
    """
    found = _layers(ds)
    return None if found is None else profile.draw(found, rangemode="tozero")


def layer_cushion_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `layer_cushion` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the cushion probe.
    """
    found = _layers(ds)
    return None if found is None else profile.draw_paper(found)


def block_cushion(ds: xr.Dataset) -> go.Figure | None:
    """Interlayer cushion of every block alone: samples, their mean and its error.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the cushion probe.
    """
    found = block_profile(ds, "block_cushion")
    return None if found is None else profile.draw(found, rangemode="tozero")


def block_cushion_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `block_cushion` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the cushion probe.
    """
    found = block_profile(ds, "block_cushion")
    return None if found is None else profile.draw_paper(found)


def output_cushion(ds: xr.Dataset) -> go.Figure | None:
    """Interlayer cushion from every state to the model's output: samples, their mean and its error.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the cushion probe.
    """
    found = block_profile(ds, "output_cushion")
    return None if found is None else profile.draw(found, rangemode="tozero")


def output_cushion_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `output_cushion` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the cushion probe.
    """
    found = block_profile(ds, "output_cushion")
    return None if found is None else profile.draw_paper(found)


def cushion_histogram(ds: xr.Dataset) -> go.Figure | None:
    """Layer cushions over samples, of the first, the middle and the last layer.

    Args:
        ds: A captured dataset.

    Returns:
        A plotly figure; None without the cushion probe, or with one sample.
    """
    rows = _chosen(ds)
    if not rows:
        return None
    bins = {"start": rows[0][2][0], "end": rows[0][2][-1], "size": rows[0][2][1] - rows[0][2][0]}
    traces = [
        go.Histogram(x=values, xbins=bins, name=name, opacity=0.65, marker={"color": colour})
        for (name, values, _), colour in zip(rows, COLOURS, strict=False)
    ]
    drawn = figure(traces, height=360)
    drawn.update_layout(barmode="overlay")
    drawn.update_xaxes(title_text="layer cushion")
    drawn.update_yaxes(title_text="samples")
    return drawn


def cushion_histogram_paper(ds: xr.Dataset) -> mf.Figure | None:
    """The figure `cushion_histogram` for print.

    Args:
        ds: A captured dataset.

    Returns:
        A matplotlib figure; None without the cushion probe, or with one sample.
    """
    rows = _chosen(ds)
    if not rows:
        return None
    with paper_style():
        drawn = mf.Figure(figsize=(3.3, 2.4))
        axis = drawn.subplots()
        for (name, values, edges), colour in zip(rows, COLOURS, strict=False):
            axis.hist(values, list(edges), label=name, color=colour, alpha=0.65)
        axis.set(xlabel="layer cushion", ylabel="samples")
        axis.legend()
    return drawn


def _layers(ds: xr.Dataset) -> profile.Profile | None:
    if not has(ds, "layer_input_norm"):
        return None
    values = _by_layer(ds)
    if not values.size:
        return None
    return profile.Profile(
        np.arange(1, values.shape[1] + 1),
        values,
        sample_ids(ds),
        "layer, in order through the branches",
        "layer cushion",
        _layer_names(ds),
    )


def _layer_names(ds: xr.Dataset) -> list[str]:
    """The layers of every branch in order, with the block that each belongs to."""
    blocks = np.nonzero(~_padding(ds))[0]
    names = block_names(ds)
    return [f"layer {k + 1}, of block {names[b]}" for k, b in enumerate(blocks)]


def _by_layer(ds: xr.Dataset) -> Array:
    """Layer cushions (sample, layer), the padding left out; a layer whose cushion is undefined keeps its place."""
    return cushions(ds)["layer_cushion"].transpose("sample", "block", "part").values[:, ~_padding(ds)]


def _padding(ds: xr.Dataset) -> Array:
    """Where (block, part) there is no layer."""
    return ds["layer_weight_norm"].isnull().all("sample").transpose("block", "part").values


def block_profile(ds: xr.Dataset, name: str) -> profile.Profile | None:
    if not has(ds, "span_product_norm"):
        return None
    values = cushions(ds)[name].transpose("sample", "block").values
    title = "interlayer cushion of the block" if name == "block_cushion" else "interlayer cushion to the output"
    return profile.Profile(ds["block"].values, values, sample_ids(ds), "block, counted from 0", title, block_names(ds))


def _chosen(ds: xr.Dataset) -> list[tuple[str, Array, Array]]:
    """(name, cushions over samples, common bins) of the first, the middle and the last layer."""
    if not has(ds, "layer_input_norm") or ds.sizes["sample"] < 2:
        return []
    values = _by_layer(ds)
    count = values.shape[1]
    positions = sorted({0, count // 2, count - 1})
    known = values[:, positions][np.isfinite(values[:, positions])]
    if not known.size:
        return []
    low, high = float(known.min()), float(known.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    return [(f"layer {p + 1} of {count}", values[:, p], edges) for p in positions]
