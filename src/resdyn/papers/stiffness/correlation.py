"""Tables 1, 4 and 7: do the two measures of a block go with whether an image is classified rightly, and with its loss?

Of a stiff block the index is far below zero: where it correlates positively with the loss, it is the images at which
the block is *less* stiff that have the larger loss. Beside the index is its size, whose sign reads as one expects.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn import metrics
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.results import Number
from resdyn.papers.stiffness.measure import QUANTITIES, READINGS, stiffness
from resdyn.papers.stiffness.networks import IMAGES, networks

OUTCOMES = ("accuracy", "loss")
PAIRS = tuple((outcome, quantity) for outcome in OUTCOMES for quantity in QUANTITIES)
SIGNIFICANT = 0.05  # the paper's


def run(lab: Lab) -> None:
    """Pearson's r of every pair for each block and pooled, with interval, p-value, corrections, and Spearman's rho."""
    for label, network in networks(lab):
        ds = stiffness(lab, network, IMAGES[lab.scale])
        for reading in READINGS:
            record_correlations(lab, label, reading, ds)


def record_correlations(lab: Lab, label: str, reading: str, ds: xr.Dataset) -> None:
    """All pairs of a network; the corrections count all blocks and pairs of this reading as one family."""
    found = {pair: correlations(ds, reading, *pair) for pair in PAIRS}
    family = np.array([[row.p_value for row, _ in rows] for rows in found.values()])
    holm, controlled = metrics.holm(family), metrics.benjamini_hochberg(family)
    for k, ((outcome, quantity), rows) in enumerate(found.items()):
        name = f"r_{outcome}_{quantity}"
        for number, (pearson, spearman) in enumerate(rows, start=1):
            note = (
                f"{_text(pearson, spearman)}; p {holm[k, number - 1]:.2g} (Holm), {controlled[k, number - 1]:.2g} (BH)"
            )
            write_correlation(lab, f"{label}.block{number}.{reading}.{name}", pearson, note)
        pooled = correlations(ds, reading, outcome, quantity, pooled=True)[0]
        images = ds.sizes["sample"]  # of which pooled pairs are repetitions
        write_correlation(lab, f"{label}.all.{reading}.{name}", pooled[0], _text(*pooled), images)
        counts = {"significant": family[k], "significant_holm": holm[k], "significant_bh": controlled[k]}
        for word, p_values in counts.items():
            total = int((p_values <= SIGNIFICANT).sum())
            note = f"of {int(np.isfinite(p_values).sum())} blocks with a correlation"
            lab.record(f"{label}.all.{reading}.{word}_{outcome}_{quantity}", total, note=note)
    last = np.abs(ds[f"stiffness_index_{reading}"].transpose("sample", "block").values[:, -1])
    loss = metrics.pearson(last, ds["loss"].values)
    write_correlation(lab, f"{label}.last.{reading}.r_loss_stiffness_size", loss, _text(loss, None))
    lab.picture(f"{label}.{reading}", _picture(label, reading, found))


def write_correlation(lab: Lab, key: str, found: metrics.Correlation, note: str, images: int | None = None) -> None:
    """Write down r with its standard error, ((1 - r^2) / (n - 2))^(1/2); n at most `images`, which pairs may repeat."""
    n = found.n if images is None else min(found.n, images)
    error = ((1 - found.coefficient**2) / (n - 2)) ** 0.5 if n > 2 else None
    lab.write(key, Number.known(found.coefficient, error, n, "test images", note))


def correlations(
    ds: xr.Dataset, reading: str, outcome: str, quantity: str, *, pooled: bool = False
) -> list[tuple[metrics.Correlation, metrics.Correlation]]:
    """Pearson's and Spearman's correlation of a measure with an outcome, for each block, or of all blocks at once.

    Pooled pairs repeat every image once a block, so that they are not independent and the p-value is too small: as in
    the paper, whose row "all blocks" is made so.
    """
    values = ds[f"{quantity}_{reading}"].transpose("sample", "block").values
    result = outcomes(ds)[outcome]
    if pooled:
        columns = [(values.ravel(), np.repeat(result, values.shape[1]))]
    else:
        columns = [(column, result) for column in values.T]
    return [(metrics.pearson(*pair), metrics.spearman(*pair)) for pair in columns]


def outcomes(ds: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Per sample: 1 where the prediction is the label, else 0; and the loss."""
    right = (ds["prediction"] == ds["label"]).astype(np.float64)
    return {"accuracy": right.values, "loss": ds["loss"].values}


def _text(pearson: metrics.Correlation, spearman: metrics.Correlation | None) -> str:
    text = f"n = {pearson.n}, p {pearson.p_value:.2g}, 95 % interval {pearson.low:.2f} to {pearson.high:.2f}"
    return text if spearman is None else f"{text}; Spearman {spearman.coefficient:.2f}, p {spearman.p_value:.2g}"


def _picture(label: str, reading: str, found: dict) -> dict:
    rows = []
    for (outcome, quantity), pairs in found.items():
        r = np.array([pearson.coefficient for pearson, _ in pairs])
        half = np.array([(pearson.high - pearson.low) / 2 for pearson, _ in pairs])
        title = f"{outcome}, {'index' if quantity == 'stiffness_index' else '% negative'}"
        rows.append(pictures.series(title, np.arange(1, r.size + 1), r, half))
    title = f"{label}: correlation over images, {reading}"
    return pictures.lines(title, "tables 1, 4, 7", rows, "block", "Pearson's r")
