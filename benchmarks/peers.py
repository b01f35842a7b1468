"""Top singular values of a residual Jacobian by the solvers that people use, at equal true error.

    python benchmarks/peers.py --weights resnet20.safetensors [--data-root DIR] [--only layer3] [--target 1e-5]

Blocks: some of a CIFAR-10 ResNet-20 at one test image, kind `gated`, float32. The true error is the worst relative
error of the top 30 values against float64 (as in `svd.py`). Every solver gets its settings from the cheapest on, and
the line shows the first that is at most `--target` wrong: an advantage that no user has, who does not know the error.
Ours is called without settings too. All return vectors; ours alone searches for values that a Krylov space may have
missed. CPU seconds, one thread, the least of three runs. skerch (`pip install skerch torch_dct`) and PRIMME (`pip
install primme`, which compiles) are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

import resdyn
from svd import Case, K, dense, jacobian_cases, relative_error

RUNS = 3
Values = Tensor | np.ndarray
BLOCKS = ("layer1.0", "layer2.1", "layer3.1")
DENSE_LIMIT = 4096


class Solver(NamedTuple):
    """A way to the top values, its settings from the cheapest on."""

    name: str
    settings: tuple[object, ...]
    run: Callable[[Case, object], Values]


class Row(NamedTuple):
    """The cheapest setting that was accurate enough, or the last."""

    name: str
    setting: str
    products: int
    seconds: float
    error: float


def scipy_svds(solver: str, case: Case, tol: object) -> Values:
    start = np.random.default_rng(0)
    options = {"maxiter": 300} if solver == "lobpcg" else {}
    operator = case.jacobian.to_scipy()
    return scipy.sparse.linalg.svds(operator, K, tol=tol, solver=solver, rng=start, **options)[1]


class Columns:
    """The operator as skerch takes it: products from both sides, vectors or columns."""

    def __init__(self, case: Case) -> None:
        self.operator, self.shape = case.jacobian, tuple(case.jacobian.shape)

    def __matmul__(self, x: Tensor) -> Tensor:
        return self.operator.matmat(x) if x.dim() == 2 else self.operator.matmat(x[:, None])[:, 0]

    def __rmatmul__(self, x: Tensor) -> Tensor:
        return self.operator.rmatmat(x.T).T if x.dim() == 2 else self.operator.rmatmat(x[:, None])[:, 0]


def skerch_hmt(case: Case, measurements: object) -> Values:
    from skerch.algorithms import ssvd

    return ssvd(Columns(case), torch.device("cpu"), torch.float32, measurements, meas_blocksize=64)[1][:K]


def primme_svds(case: Case, tol: object) -> Values:
    import primme

    return primme.svds(case.jacobian.to_scipy(), K, tol=tol)[1]


def solvers(dimension: int) -> Iterator[Solver]:
    """Ours first."""
    tolerances = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    yield Solver("resdyn svd", ("as called",), lambda case, _: resdyn.svd(case.jacobian, K).S)
    yield Solver("resdyn svd, tol", tolerances[:4], lambda case, tol: resdyn.svd(case.jacobian, K, tol=tol).S)
    yield Solver("scipy svds, ARPACK", (*tolerances, 0), partial(scipy_svds, "arpack"))
    yield Solver("scipy svds, PROPACK", (*tolerances, 1e-7), partial(scipy_svds, "propack"))
    yield Solver("scipy svds, LOBPCG", tolerances, partial(scipy_svds, "lobpcg"))
    if importlib.util.find_spec("primme"):
        yield Solver("PRIMME svds", tolerances, primme_svds)
    if importlib.util.find_spec("skerch"):
        yield Solver("skerch ssvd, HMT", (64, 128, 256, 512, 1024, 2048), skerch_hmt)
    if dimension <= DENSE_LIMIT:
        yield Solver("jacrev + svd_lowrank, iterations", (2, 8, 32), lowrank)
        yield Solver("jacrev + LAPACK", ("all values",), lambda case, _: torch.linalg.svdvals(dense(case))[:K])


def lowrank(case: Case, iterations: object) -> Values:
    torch.manual_seed(0)
    return torch.svd_lowrank(dense(case), q=K + 10, niter=iterations)[1][:K]


def measured(solver: Solver, case: Case, reference: Tensor, target: float) -> Row:
    for setting in solver.settings:
        seconds, error = float("inf"), float("inf")
        for _ in range(RUNS):
            before, start = case.jacobian.num_matvecs, time.process_time()
            error = relative_error(solver.run(case, setting), reference)
            spent, took = case.jacobian.num_matvecs - before, time.process_time() - start
            seconds = min(seconds, took)
            if took > 10 or error > target:
                break
        if error <= target:
            break
    return Row(solver.name, str(setting), spent, seconds, error)


def line(row: Row, target: float) -> str:
    missed = "" if row.error <= target else " (not reached)"
    return f"{row.name} | {row.setting} | {row.products or ''} | {row.seconds:.3f} | {row.error:.1e}{missed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="safetensors file of the CIFAR-10 ResNet-20")
    parser.add_argument("--data-root", default=None, help="folder of datasets (default: RESDYN_DATA)")
    parser.add_argument("--target", type=float, default=1e-5, help="largest relative error of the 30 values")
    parser.add_argument("--only", default="", help="only blocks whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = resdyn.load_model("resdyn:cifar_resnet20", options.weights)
    x = resdyn.load_data("cifar10", "test", root=options.data_root).prepared(loaded.preprocessing).inputs([0])
    print("| block | solver | setting | products | CPU s | true error |\n|---|---|---|--:|--:|--:|")
    for case in jacobian_cases(loaded.model, x, ""):
        if case.name not in BLOCKS or options.only not in case.name:
            continue
        reference = resdyn.svd(case.accurate, K, tol=1e-9, basis_size=400, max_matvecs=20_000)
        rows = []
        for solver in solvers(case.jacobian.shape[1]):
            rows.append(measured(solver, case, reference.S, options.target))
            print(f"| {case.name} | {line(rows[-1], options.target)} |", flush=True)
        fastest = min((row for row in rows if row.error <= options.target), key=lambda row: row.seconds)
        print(f"| | **fastest: {fastest.name}** | | | | |", flush=True)
    versions = f"torch {torch.__version__}, scipy {scipy.__version__}, resdyn {resdyn.__version__}"
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, one thread, {versions}, error at most {options.target:.0e}")


if __name__ == "__main__":
    main()
