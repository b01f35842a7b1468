"""What rounded products do to a transport, measured on its first samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from resdyn.errors import ComputationError, InputError
from resdyn.stream.placement import model_device, model_dtype
from resdyn.stream.tail_map import TailMap
from resdyn.stream.verify import taken_as_current
from resdyn.transporting.preparing import Prepared
from resdyn.transporting.reductions import block_size

SAMPLES, LIMIT = 2, 0.02


def products_error(found: Prepared) -> float:
    """Largest relative Frobenius difference, over depths, of the mean over the first samples.

    Raises:
        InputError: For a model that is not in single precision.
        ComputationError: Above 2 %.
    """
    if (own := model_dtype(found.stream.model)) != torch.float32:
        raise InputError(
            f"got products='bfloat16' and a model in {own}, expected one in single precision; leave it out"
        )
    exact = replace(found, tail=TailMap(found.stream, found.tail.depths, found.target, found.trace))
    pairs = zip(_mean(found), _mean(exact), strict=True)
    error = max(float((a - b).norm() / b.norm()) if b.any() else float(a.norm()) for a, b in pairs)
    if not error <= LIMIT:
        raise ComputationError(
            f"products in bfloat16 change the transport of the first samples by {error:.2g}, expected at most {LIMIT}; "
            "leave products out"
        )
    return error


def _mean(found: Prepared) -> list[Tensor]:
    device, sums = model_device(found.stream.model), []
    for n, row in enumerate(found.samples[:SAMPLES]):
        one = found.inputs.read(row[None]).to(device)
        with taken_as_current():
            pullback = found.tail.at(found.stream.states(*one.args, **one.kwargs))
        like = torch.empty(0, dtype=pullback.dtype, device=device)
        block = block_size(found.tail.largest, like.element_size(), device)
        valid = None if found.valid is None else found.valid[n].to(device)
        sums.append([matrix.double() for matrix in found.reduction.matrices(pullback, valid, like, block)])
    return [torch.stack(column).mean(0) for column in zip(*sums, strict=True)]
