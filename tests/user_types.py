"""What a type checker sees from a user's file: `make types` checks it, nothing runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import xarray as xr
from torch import Tensor

import resdyn
from own_probe import Gain
from resdyn.linalg import DenseOperator
from resdyn.metrics import Metric
from resdyn.probes import Cushion, Features, Probe, Singular, Spectrum, Trajectory
from resdyn.stream import ResidualStream, Stream, TokenStream


def takes(stream: Stream, probe: Probe) -> None: ...


def streams_and_probes(whole: ResidualStream, token: TokenStream) -> None:
    for probe in (Trajectory(), Singular(k=3), Spectrum(), Cushion(), Features(), Gain()):
        takes(whole, probe)
        takes(token, probe)
    takes(whole, 3)  # type: ignore[arg-type]
    takes(3, Trajectory())  # type: ignore[arg-type]


def names(model: Callable[[Tensor], Tensor], matrix: Tensor, ds: xr.Dataset) -> None:
    assert_type(resdyn.svd(DenseOperator(matrix), 3), resdyn.SVDResult)
    assert_type(resdyn.eigenvalues(DenseOperator(matrix)), resdyn.EigenResult)
    assert_type(resdyn.open_store("store.zarr"), xr.Dataset)
    assert_type(resdyn.metrics.summarize(ds), list[Metric])
    assert_type(resdyn.register(resdyn.Phenomenon("mine")), resdyn.Phenomenon)
    resdyn.find_stream(model)  # type: ignore[arg-type]
    resdyn.capture(model, matrix)  # type: ignore[arg-type]
