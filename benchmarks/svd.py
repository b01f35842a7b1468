"""Singular values of residual Jacobians: five ways, one table.

    python benchmarks/svd.py --weights resnet20.safetensors [--data-root DIR] [--dense-limit 4096] [--threads 2]

Blocks: every square block of the CIFAR-10 ResNet-20 at one CIFAR-10 test image, and one 64-channel 16x16 block of two
3x3 convolutions (random weights), all `gated`, float32. The error of a method is the worst relative error of its top 30
values against float64: block Lanczos on the float64 Jacobian to residuals below 1e-9, so values are sure to 1e-9 s_1.

`lanczos` stands there twice: stopped at the first block at which its error is no larger than that of `randomized`
(which a user cannot know, so this compares the algorithms), and as called without any settings. SciPy's `svds`
(ARPACK) works on the same operator, to its default tolerance. Times of our methods are the best of several interleaved
repetitions; CPU seconds stand beside wall seconds, because only they mean something while others use the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

import resdyn
from resdyn.linalg import LinearOperator

K = 30
REPETITIONS = 5


@dataclass(frozen=True)
class Case:
    """One block: its Jacobian in float32, and in float64 for reference."""

    name: str
    jacobian: LinearOperator
    accurate: LinearOperator
    function: Callable[[Tensor], Tensor]
    state: Tensor


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    method: str
    matvecs: int
    wall: float
    cpu: float
    error: float | None = None
    search: int = 0


def jacobian_cases(model: torch.nn.Module, x: Tensor, prefix: str) -> Iterator[Case]:
    """The square blocks of a model at one input."""
    single = resdyn.find_stream(model.float(), x.float())
    states = single.states(x.float())
    functions = [
        block.function("gated", states[i].reshape(block.graph_shape_in)) for i, block in enumerate(single.blocks)
    ]
    square = [block.index for block in single.blocks if block.square and block.shape_in == block.shape_out]
    fast = {i: single.jacobian(i, states) for i in square}
    double = resdyn.find_stream(deepcopy(model).double(), x.double())
    for i in square:
        state = states[i].reshape(single.blocks[i].graph_shape_in)
        accurate = double.jacobian(i, states[i].double())
        yield Case(prefix + single.blocks[i].path, fast[i], accurate, functions[i], state)


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def relative_error(values: Tensor | np.ndarray, reference: Tensor) -> float:
    values = torch.as_tensor(np.sort(np.asarray(values, dtype=np.float64))[::-1].copy())
    return float(((values - reference) / reference).abs().max())


def dense(case: Case) -> Tensor:
    matrix = torch.func.jacrev(case.function, chunk_size=256)(case.state)
    return matrix.reshape(case.jacobian.shape).detach()


def dense_rows(case: Case, reference: Tensor) -> Iterator[Row]:
    cost = min(case.jacobian.shape)
    watch = Stopwatch()
    values = torch.linalg.svd(dense(case), full_matrices=False)[1][:K]
    yield Row("jacrev + linalg.svd", cost, *watch.read(), relative_error(values, reference))
    torch.manual_seed(0)
    watch = Stopwatch()
    values = torch.svd_lowrank(dense(case), q=K + 10, niter=2)[1][:K]
    yield Row("jacrev + svd_lowrank", cost, *watch.read(), relative_error(values, reference))


def scipy_row(case: Case, reference: Tensor) -> Row:
    before, watch = case.jacobian.num_matvecs, Stopwatch()
    values = scipy.sparse.linalg.svds(case.jacobian.to_scipy(), k=K, random_state=0)[1]
    spent = case.jacobian.num_matvecs - before
    return Row("scipy svds", spent, *watch.read(), relative_error(values, reference))


def matched_budget(case: Case, reference: Tensor, target: float) -> int:
    """The fewest matvecs at which Lanczos is as accurate as the target."""
    for budget in range(64, 2000, 16):
        result = resdyn.svd(case.jacobian, K, tol=0.0, max_matvecs=budget)
        if relative_error(result.S, reference) <= target:
            return budget
    raise SystemExit(f"{case.name}: lanczos did not reach an error of {target:.1e}")


def our_rows(case: Case, reference: Tensor) -> list[Row]:
    target = relative_error(resdyn.svd(case.jacobian, K, "randomized").S, reference)
    budget = matched_budget(case, reference, target)
    runs: dict[str, Callable[[], resdyn.SVDResult]] = {
        "resdyn randomized": lambda: resdyn.svd(case.jacobian, K, "randomized"),
        "resdyn lanczos, same error": lambda: resdyn.svd(case.jacobian, K, tol=0.0, max_matvecs=budget),
        "resdyn lanczos, default": lambda: resdyn.svd(case.jacobian, K),
    }
    results, times = {}, {name: (float("inf"), float("inf")) for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            watch = Stopwatch()
            results[name] = run()
            wall, cpu = watch.read()
            times[name] = min(times[name][0], wall), min(times[name][1], cpu)
    return [
        Row(n, r.num_matvecs, *times[n], relative_error(r.S, reference), r.search_matvecs) for n, r in results.items()
    ]


def rows(case: Case, dense_limit: int) -> Iterator[Row]:
    reference = resdyn.svd(case.accurate, K, tol=1e-9, basis_size=400, max_matvecs=20_000)
    if not bool(reference.converged.all()):
        raise SystemExit(f"{case.name}: the reference did not converge")
    if case.jacobian.shape[1] <= dense_limit:
        yield from dense_rows(case, reference.S)
    else:
        yield Row(f"dense: not at {case.jacobian.shape[1]} > {dense_limit}", 0, 0.0, 0.0)
    yield scipy_row(case, reference.S)
    yield from our_rows(case, reference.S)


def verdict(table: list[Row]) -> str:
    """The share of the 1640 matvecs of the range finder and of the wall time, and the cost of the certificate."""
    by_name = {row.method: row for row in table}
    ours, theirs = by_name["resdyn lanczos, same error"], by_name["resdyn randomized"]
    whole = by_name["resdyn lanczos, default"]
    return (
        f"{ours.matvecs} of 1640 matvecs ({ours.matvecs / 1640:.2f}), "
        f"{ours.wall / theirs.wall:.2f} of the wall and {ours.cpu / theirs.cpu:.2f} of the CPU time; "
        f"with the certificate {whole.matvecs / (whole.matvecs - whole.search):.2f} of the matvecs without"
    )


def cases(weights: str, data_root: str | None, image: int) -> Iterator[Case]:
    loaded = resdyn.load_model("resdyn:cifar_resnet20", weights)
    data = resdyn.load_data("cifar10", "test", root=data_root).prepared(loaded.preprocessing)
    yield from jacobian_cases(loaded.model, data.inputs([image]), "")
    torch.manual_seed(0)
    two_convolutions = resdyn.nets.ResidualCNN(depth=1).eval()
    yield from jacobian_cases(two_convolutions, torch.randn(1, 3, 32, 32), "64 x 16 x 16, ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="safetensors file of the CIFAR-10 ResNet-20")
    parser.add_argument("--data-root", default=None, help="folder of datasets (default: RESDYN_DATA)")
    parser.add_argument("--image", type=int, default=0, help="index of the CIFAR-10 test image")
    parser.add_argument("--dense-limit", type=int, default=4096, help="largest dimension to decompose densely")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="only blocks whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"torch {torch.__version__}, image {options.image}, k = {K}, float32\n"
    )
    print("| block | method | matvecs | wall s | CPU s | worst relative error |\n|---|---|---:|---:|---:|---:|")
    for case in cases(options.weights, options.data_root, options.image):
        if options.only not in case.name:
            continue
        table = list(rows(case, options.dense_limit))
        for row in table:
            error = "" if row.error is None else f"{row.error:.1e}"
            figures = f"{row.matvecs} | {row.wall:.3f} | {row.cpu:.3f}" if row.matvecs else " | | "
            print(f"| {case.name} ({case.jacobian.shape[1]}) | {row.method} | {figures} | {error} |", flush=True)
        print(f"| | **lanczos to randomized at the same error** | {verdict(table)} | | | |", flush=True)


if __name__ == "__main__":
    main()
