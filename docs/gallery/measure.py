"""Measure a network of the gallery and its untrained twin, into stores under out/gallery; killed, it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from networks import NETWORKS, Network
from torch import nn

import resdyn
from resdyn._files import whole_file
from resdyn.models.untrained import NOTE

OUT = Path(__file__).parents[2] / "out" / "gallery"
SEED = 0
WEIGHTS = ("trained", "untrained")


def measured(name: str) -> tuple[xr.Dataset, xr.Dataset, dict[str, Any]]:
    """The captures of a network and of its twin, and the identity shares of their transports."""
    network = NETWORKS[name]
    model, data = network.factory()
    twin = resdyn.untrained_twin(model, SEED + 1)
    stores, shares = [], {}
    for which, module, notes in (("trained", model, ()), ("untrained", twin, (NOTE.format(seed=SEED + 1),))):
        found = resdyn.capture(
            module,
            data,
            network.probes,
            store(name, which),
            samples=network.samples,
            seed=SEED,
            command=f"python docs/gallery/make.py {name}",
            notes=[f"Measured on {network.data}.", *notes],
            **network.options,
        )
        stores.append(found)
        file = transport_file(name, which)
        if not file.exists() or json.loads(file.read_text(encoding="utf-8"))["n"] != found.sizes["sample"]:
            with whole_file(file) as partial:
                partial.write_text(json.dumps(identity_share(module, data, found, network)), encoding="utf-8")
        shares[which] = json.loads(file.read_text(encoding="utf-8"))
    return _named(stores[0], network), _named(stores[1], network), shares


def stored(name: str) -> tuple[xr.Dataset, xr.Dataset, dict[str, Any]]:
    """The same of stores that are finished, without the network."""
    trained, untrained = (_named(resdyn.open_store(store(name, which)), NETWORKS[name]) for which in WEIGHTS)
    shares = {which: json.loads(transport_file(name, which).read_text(encoding="utf-8")) for which in WEIGHTS}
    return trained, untrained, shares


def store(name: str, which: str) -> Path:
    """Where a capture is kept."""
    return OUT / f"{name}{'' if which == 'trained' else '-untrained'}.zarr"


def transport_file(name: str, which: str) -> Path:
    """Where an identity share is kept."""
    return OUT / f"{name}-{which}-transport.json"


def _named(found: xr.Dataset, network: Network) -> xr.Dataset:
    return found.assign_attrs(model=network.title, data=network.data, split="")


def identity_share(module: nn.Module, data: Any, found: xr.Dataset, network: Network) -> dict[str, Any]:
    """How much of the transport from the first state of the last shape to the last state is the identity.

    The mean is over samples; its error is a jackknife over them, for the share of a mean is no mean of shares.
    """
    first = int(np.flatnonzero(found["stage_of_depth"].values == found["stage_of_depth"].values[-1])[0])
    lenses = [
        resdyn.transport(module, data, depths=[first], samples=[int(i)], show_progress=False, **network.transport)
        for i in found["sample"].values
    ]
    matrices = np.stack([np.asarray(lens[first], dtype=np.float64) for lens in lenses])
    n, rows = matrices.shape[:2]
    without = [_share(np.delete(matrices, k, 0)) for k in range(n)]
    error = float(np.sqrt((n - 1) * np.var(without))) if n > 1 else None
    return {"value": _share(matrices), "standard_error": error, "n": n, "depth": first, "chance": 1 / rows**2}


def _share(matrices: np.ndarray) -> float:
    return resdyn.metrics.transport_structure(matrices.mean(0)).identity_share
