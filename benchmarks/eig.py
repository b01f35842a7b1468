"""Eigenvalues of residual Jacobians: the ends of the spectrum, all of it, inertia and slices, peers in one run.

    python benchmarks/eig.py --weights resnet20.safetensors [--data-root DIR] [--dense-limit 4096] [--threads 2]

Blocks: every square block of the CIFAR-10 ResNet-20 at one CIFAR-10 test image, the whole block (kind `block`) and, at
4096 dimensions, its branch alone (no ReLU behind it, so no zero rows that LAPACK would find too); float32.
Ends are the largest and the smallest real part. Errors are relative to the larger of both, against all eigenvalues
in float64 of the compressed matrix (4096 dimensions; above that against `eigenvalues` on the float64 Jacobian to 1e-9).
Times are the best of several repetitions, CPU seconds beside wall seconds; the dense lines are timed once.

The part `inertia` compares the two ways to count negative real parts on the device that is asked for (`--device cuda`).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

import resdyn
from resdyn.linalg import LinearOperator, inertia, slice_eigenvalues

REPETITIONS = 5
ENDS = ("LR", "SR")
KINDS: tuple[resdyn.stream.Kind, ...] = ("block", "branch")


class Case(NamedTuple):
    """A block's Jacobian in float32 and float64, as a function at a state, and the shapes of its maps."""

    name: str
    jacobian: LinearOperator
    accurate: LinearOperator
    function: Callable[[Tensor], Tensor]
    state: Tensor
    shape: tuple[int, ...]


class Timed(NamedTuple):
    """What a run gave, and its best wall and CPU seconds."""

    result: Any
    wall: float
    cpu: float


def timed(run: Callable[[], Any], repetitions: int = 1) -> Timed:
    best = (float("inf"), float("inf"))
    for _ in range(repetitions):
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        best = min(best[0], time.perf_counter() - wall), min(best[1], time.process_time() - cpu)
    return Timed(result, *best)


def cases(weights: str, data_root: str | None, image: int) -> Iterator[Case]:
    loaded = resdyn.load_model("resdyn:cifar_resnet20", weights)
    x = resdyn.load_data("cifar10", "test", root=data_root).prepared(loaded.preprocessing).inputs([image])
    single = resdyn.find_stream(loaded.model, x)
    double = resdyn.find_stream(deepcopy(loaded.model).double(), x.double())
    states = single.states(x)
    for block in (block for block in single.blocks if block.square):
        i, state = block.index, states[block.index]
        shaped = state.reshape(block.graph_shape_in)
        for kind in KINDS if state.numel() <= 4096 else KINDS[:1]:
            operators = single.jacobian(i, states, kind), double.jacobian(i, state.double(), kind)
            yield Case(f"{block.path} {kind}", *operators, block.function(kind, shaped), shaped, block.shape_out)


def reference(case: Case, dense_limit: int) -> tuple[float, float, float | None]:
    """Largest and smallest real part in float64, and the share of negative ones where all are computed."""
    if case.jacobian.shape[0] <= dense_limit:
        real = resdyn.eigenvalues(case.accurate).values.real
        return float(real.max()), float(real.min()), 100 * float((real < 0).double().mean())
    ends = resdyn.eigenvalues(case.accurate, ENDS, tol=1e-9)
    return float(ends.end("LR").values.real[0]), float(ends.end("SR").values.real[0]), None


def dense(case: Case) -> tuple[float, float]:
    matrix = torch.func.jacrev(case.function, chunk_size=256)(case.state).reshape(case.jacobian.shape).detach()
    real = torch.linalg.eigvals(matrix).real
    return float(real.max()), float(real.min())


def arpack(case: Case) -> tuple[float, float]:
    operator, start = case.jacobian.to_scipy(), np.ones(case.jacobian.shape[0], np.float32)
    return tuple(  # type: ignore[return-value]
        float(scipy.sparse.linalg.eigs(operator, k=1, which=end, tol=1e-3, v0=start, return_eigenvectors=False)[0].real)
        for end in ENDS
    )


def ours(case: Case, tol: float | None = None) -> tuple[float, float]:
    ends = resdyn.eigenvalues(case.jacobian, ENDS, tol=tol)
    return float(ends.end("LR").values.real[0]), float(ends.end("SR").values.real[0])


def rows(case: Case, dense_limit: int) -> Iterator[tuple[str, str, float, float, str]]:
    n, (top, bottom, _) = case.jacobian.shape[0], reference(case, dense_limit)

    def row(method: str, run: Callable[[Case], tuple[float, float]], repetitions: int) -> tuple:
        before = case.jacobian.num_matvecs
        found, wall, cpu = timed(lambda: run(case), repetitions)
        spent = (case.jacobian.num_matvecs - before) // repetitions or n
        error = max(abs(found[0] - top), abs(found[1] - bottom)) / max(abs(top), abs(bottom))
        return method, str(spent), wall, cpu, f"{error:.1e}"

    mine = row("resdyn krylov_schur, default tol", ours, REPETITIONS)
    quick = row("resdyn krylov_schur, tol 1e-3", lambda case: ours(case, 1e-3), REPETITIONS)
    if n <= dense_limit:
        naive = row("jacrev + linalg.eigvals", dense, 1)
        yield naive
        full = timed(lambda: resdyn.eigenvalues(case.jacobian))
        yield "resdyn all eigenvalues, compressed", str(full.result.num_matvecs), full.wall, full.cpu, ""
    yield row("scipy eigs, tol 1e-3", arpack, REPETITIONS)
    yield mine
    yield quick
    if n <= dense_limit:
        faster = [f"{naive[2] / run[2]:.0f} times (CPU {naive[3] / run[3]:.0f})" for run in (quick, mine)]
        yield f"**faster than dense: {faster[0]} at tol 1e-3, {faster[1]} at the default**", "", 0.0, 0.0, ""
    if case.name.endswith("branch"):
        return
    if case.name.endswith("branch"):
        return
    maps = timed(lambda: slice_eigenvalues(case.jacobian, case.shape, case.shape))
    yield "resdyn slices", str(maps.result.num_matvecs), maps.wall, maps.cpu, ""
    if n <= dense_limit:
        naive_maps = timed(lambda: torch.linalg.eigvals(case.jacobian.to_dense().reshape(*case.shape, *case.shape)))
        yield "jacobian + linalg.eigvals of slices", str(n), naive_maps.wall, naive_maps.cpu, ""


def inertia_rows(size: int, device: str) -> Iterator[str]:
    """Both ways on a random nonnormal matrix like a compressed block: the identity and some noise."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) / size**0.5
    matrix = (0.5 * torch.eye(size) + noise).to(device)
    for method in ("eigenvalues", "sign"):
        found = timed(lambda method=method: inertia(matrix, method=method))  # type: ignore[misc]
        yield f"| {size} | {method} | {found.wall:.2f} | {found.result.negative} | {found.result.converged} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="safetensors file of the CIFAR-10 ResNet-20")
    parser.add_argument("--data-root", default=None, help="folder of datasets (default: RESDYN_DATA)")
    parser.add_argument("--image", type=int, default=0, help="index of the CIFAR-10 test image")
    parser.add_argument("--dense-limit", type=int, default=4096, help="largest dimension to decompose densely")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of the part on inertia")
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024, 2048], help="of the part on inertia")
    parser.add_argument("--only", default="", help="only blocks whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"torch {torch.__version__}, image {options.image}, float32\n"
    )
    print("| block | method | matvecs | wall s | CPU s | worst relative error |\n|---|---|---:|---:|---:|---:|")
    for case in cases(options.weights, options.data_root, options.image):
        if options.only in case.name:
            for method, spent, wall, cpu, error in rows(case, options.dense_limit):
                figures = f"{spent} | {wall:.3f} | {cpu:.3f}" if spent else " | | "
                print(f"| {case.name} ({case.jacobian.shape[0]}) | {method} | {figures} | {error} |", flush=True)
    print(f"\n| n | inertia on {options.device} | wall s | negative | converged |\n|---:|---|---:|---:|---|")
    for size in options.sizes:
        for line in inertia_rows(size, options.device):
            print(line, flush=True)


if __name__ == "__main__":
    main()
