"""The last half of the network, where the paper sees alignment (footnote 1: early states cannot be distinguished)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from resdyn import metrics


def late_blocks(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which blocks (block,) belong to the last half."""
    return np.asarray(ds["block"].values >= ds.sizes["block"] // 2)


def late_states(ds: xr.Dataset, *, whole: bool = False) -> NDArray[np.float64]:
    """States (sample, depth, coord) of the last stage: those of the last half of the network, or all of them."""
    stage = ds["stage_of_depth"].values
    kept = (stage == stage[-1]) & (whole | (ds["depth"].values >= ds.sizes["block"] // 2))
    size = int(ds["state_size"].values[-1])
    return ds["states"].transpose("sample", "depth", "coord").values[:, kept, :size].astype(np.float64)


def diagonal_energy(ds: xr.Dataset, kind: str = "uv", late: bool = False, rank: int | None = None) -> NDArray:
    """RA2 in one number a sample, (sample,): diagonal energy averaged over pairs of blocks i != j of equal shape."""
    pairs = metrics.alignment(ds, rank)[f"diagonal_energy_{kind}"]
    if late:
        kept = np.flatnonzero(late_blocks(ds))
        pairs = pairs.isel(block=kept, block_j=kept)
    return metrics.between_blocks(pairs).values
