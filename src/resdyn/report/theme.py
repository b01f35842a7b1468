"""Colours, typography and text escaping shared by every figure."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.colors
import numpy as np
import plotly.graph_objects as go
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

__all__ = ["MARKERS", "PALETTE", "SEQUENTIAL", "class_colour", "class_symbol", "paper_style"]  # for figures elsewhere

# Petroff (2021), "Accessible color sequences for data visualization", ten colours.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "cross", "star")
MARKERS = ("o", "s", "D", "^", "X", "v", "P", "*")  # the same shapes, in matplotlib's words
ACCENT, SECOND = PALETTE[0], PALETTE[6]
SEQUENTIAL = "magma"
SQUARE_STANDOFF = 34  # in square plots plotly counts it from the axis line and forgets the tick labels
FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
SCHEMES = {
    "light": {"ink": "#22262e", "grid": "#e6e8ec", "line": "#aab0bb", "paper": "#ffffff"},
    "dark": {"ink": "#dfe3ea", "grid": "#30363f", "line": "#59616e", "paper": "#191d23"},
}


def class_colour(index: int) -> str:
    """Colour of a class; beyond ten classes the colours repeat with another symbol."""
    return PALETTE[index % len(PALETTE)]


def class_symbol(index: int) -> int:
    """Position in SYMBOLS and MARKERS; (colour, symbol) is unique for the first forty classes."""
    return (index + index // len(PALETTE)) % len(SYMBOLS)


def plain(text: object, limit: int = 40) -> str:
    """Shorten user text and escape it for plotly, which reads a subset of HTML in every label."""
    return html.escape(shortened(text, limit), quote=False)


def shortened(text: object, limit: int) -> str:
    """Text on one line; too long a one loses its middle, since names often differ at the end."""
    words = " ".join(str(text).split())
    tail = limit // 3
    return words if len(words) <= limit else f"{words[: limit - tail - 1]}…{words[-tail:]}"


def template(scheme: str = "light") -> dict[str, Any]:
    """The plotly template of a colour scheme, as a dictionary."""
    colour = SCHEMES[scheme]
    axis = {
        "gridcolor": colour["grid"],
        "linecolor": colour["line"],
        "tickcolor": colour["line"],
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }
    layout = {
        "font": {"family": FONT, "size": 13, "color": colour["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(PALETTE),
        "margin": {"l": 12, "r": 12, "t": 30, "b": 12},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": colour["line"], "activecolor": colour["ink"]},
        "hoverlabel": {"font": {"family": FONT, "size": 13}},
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "xaxis": axis,
        "yaxis": axis,
        "annotationdefaults": {"font": {"size": 13}},
    }
    return {"layout": layout}


def figure(traces: list[Any], **layout: Any) -> go.Figure:
    """A plotly figure in the light scheme; the page exchanges the template for the reader's scheme."""
    return go.Figure(traces, layout=go.Layout(template=template(), **layout))


def menu(labels: list[str], arguments: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A drop-down that updates (traces, layout); the page shows it as the browser's own select box."""
    buttons = [
        {"label": label, "method": "update", "args": args} for label, args in zip(labels, arguments, strict=True)
    ]
    return [{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}]


def colour_bar(title: str) -> dict[str, Any]:
    """A horizontal colour bar above the plot: it leaves the whole width of a phone to the plot."""
    return {
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "y": 1.01,
        "yanchor": "bottom",
        "thickness": 9,
        "ticklen": 3,
        "outlinewidth": 0,
    }


def colour_scale(power: float = 1.0) -> list[list[Any]]:
    """Magma with colours proportional to value**power; below one, small values become visible."""
    steps = np.linspace(0, 1, 21)
    colours = [mpl.colors.to_hex(c) for c in mpl.colormaps[SEQUENTIAL](steps)]
    return [[float(t ** (1 / power)), colour] for t, colour in zip(steps, colours)]


def one_visible(index: int, count: int) -> dict[str, list[bool]]:
    """Trace update that shows trace `index` of `count` alone."""
    return {"visible": [k == index for k in range(count)]}


def log_axis(axis: Any, sign: str = "") -> None:
    """A logarithmic vertical axis for print with plain numbers as labels, and enough of them below two decades."""
    low, high = axis.get_ylim() if axis.get_yscale() == "log" else axis.yaxis.get_data_interval()
    axis.set_yscale("log")
    decades = np.log10(high / low) if low > 0 and np.isfinite(high / low) else 2.0
    steps = (1.0,) if decades > 2 else (1.0, 2.0, 5.0) if decades > 0.7 else tuple(np.arange(1, 10, 0.5))
    axis.yaxis.set_major_locator(LogLocator(subs=steps))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{sign}{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def log_ticks(values: Any, sign: str = "") -> dict[str, Any]:
    """The same for the page: distance and form of the ticks of a logarithmic axis that shows these values.

    With a sign every tick is written out: plotly leaves the prefix of an axis out at digits between powers of ten.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known) & (known > 0)]
    decades = np.log10(known.max() / known.min()) if known.size else 2.0
    if decades > 1 and not (sign and known.size):
        return {"type": "log", "tickformat": "~g", "dtick": 1 if decades > 2 else "D2"}
    ticks = _digits(known, decades) if decades > 1 else _linear(known)  # powers and halves may all be outside
    written = {"ticktext": [f"{sign}{tick:g}" for tick in ticks]} if sign else {}
    return {"type": "log", "tickformat": "~g", "tickmode": "array", "tickvals": ticks, **written}


def _linear(known: Any) -> list[float]:
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(known.min(), known.max())
    return [float(tick) for tick in ticks if tick > 0]


def _digits(known: Any, decades: float) -> list[float]:
    powers = range(int(np.floor(np.log10(known.min()))), int(np.ceil(np.log10(known.max()))) + 1)
    return [digit * 10.0**power for power in powers for digit in ((1,) if decades > 2 else (1, 2, 5))]


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib settings for figures in papers: embedded TrueType fonts, thin lines, no clutter."""
    settings: Any = {
        "pdf.fonttype": 42,
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.0,
        "lines.markersize": 3.0,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "text.parse_math": False,
    }
    with mpl.rc_context(settings):
        yield
