"""Counts of negative real parts never leave out an eigenvalue that rounding may move, nor decide one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resdyn.linalg import (
    DenseOperator,
    FunctionOperator,
    PseudoInverse,
    commutator,
    count_negative,
    departure_from_normality,
    eigenvalues,
    frobenius_norm,
    inertia,
    spectral_distribution,
)
from resdyn.linalg.count import count_in
from test_eig import DTYPES, grcar, jordan, pairs_and_reals, random, with_eigenvalues


def unimodular(n: int, steps: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """An integer matrix and its inverse, both exact."""
    Q, P = np.eye(n), np.eye(n)
    for _ in range(steps):
        i, j = generator.choice(n, 2, replace=False)
        Q[i] += Q[j]
        P[:, j] -= P[:, i]
    return torch.from_numpy(Q), torch.from_numpy(P)


def families(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(matrix, real parts): spectra that are known exactly, well-conditioned to hopeless."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(3, 30))
    d = random(n, seed=seed)
    whole = (d * 64).round() / 64
    well, hard = unimodular(n, 2 * n, generator), unimodular(n, 10 * n, generator)
    rank = max(1, n // 4)
    B = torch.linalg.qr(random(n, rank, seed=seed + 1))[0]
    C = random(rank, n, seed=seed + 2) @ (torch.eye(n, dtype=torch.float64) - B @ B.T)
    low = B @ (d[:rank, None] * B.T + C)
    value = float(d[0]) * 10.0 ** float(generator.integers(-2, 1))
    turn = torch.linalg.qr(random(n, n, seed=seed + 3))[0]
    return {
        "symmetric": ((turn * d) @ turn.T, d),
        "triangle": (torch.diag(d) + random(n, n, seed=seed + 4).triu(1), d),
        "turned triangle": (turn @ (torch.diag(d) + random(n, n, seed=seed + 4).triu(1) / n**0.5) @ turn.T, d),
        "similar": (well[0] @ torch.diag(whole) @ well[1], whole),
        "ill-conditioned similar": (hard[0] @ torch.diag(whole) @ hard[1], whole),
        "low rank": (low, torch.cat([d[:rank], torch.zeros(n - rank, dtype=torch.float64)])),
        "turned jordan": (turn @ jordan(n, value) @ turn.T, torch.full((n,), value, dtype=torch.float64)),
        "repeated": ((turn * d.sign()) @ turn.T, d.sign()),
        "tiny": (torch.diag(d * 10.0 ** torch.arange(n).neg()), d),
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(25))
def test_no_count_is_wrong_by_more_than_it_leaves_undecided(seed, dtype):
    for name, (matrix, real) in families(seed).items():
        true = int((real < 0).sum())
        count = count_negative(DenseOperator(matrix.to(dtype)), seed)
        assert count.negative <= true <= count.negative + count.undecided, (name, count)
        if name in ("symmetric", "repeated") and float(real.abs().min()) > 1e-4:
            assert (count.undecided, count.reason) == (0, ""), (name, count)
        if name == "low rank":
            assert count.undecided >= len(real) - max(1, len(real) // 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_conditioning_makes_a_count_meaningless_it_says_so(dtype):
    for matrix in (grcar(100), grcar(100).T):
        for count in (
            count_negative(DenseOperator(matrix.to(dtype))),
            count_in(eigenvalues(DenseOperator(matrix.to(dtype)))),
        ):
            assert count.undecided > 50
            assert "may move" in count.reason


def test_a_null_space_is_not_negative_and_is_named():
    B, C = random(400, 40) / 20, random(40, 400, seed=1) / 20
    true = int((torch.linalg.eigvals(C @ B).real < 0).sum())
    for dtype in DTYPES:
        count = count_negative(DenseOperator((B @ C).to(dtype)))
        assert count.negative <= true <= count.negative + count.undecided - count.zero
        assert (count.zero, count.undecided - count.zero) == (360, 0)


def test_a_large_operator_of_low_rank_is_counted_from_its_small_product():
    B, C = random(540, 20) / 24, random(20, 540, seed=1) / 24
    matrix = B @ C
    true = int((torch.linalg.eigvals(C @ B).real < 0).sum())
    operator = FunctionOperator((540, 540), torch.float64, "cpu", matrix.matmul, matrix.T.matmul)
    count = count_negative(operator)
    assert count.negative <= true <= count.negative + count.undecided
    assert true + 5 >= count.negative >= true - 5


def test_both_ways_to_the_inertia_leave_undecided_what_rounding_decides():
    turn = torch.linalg.qr(random(40, 40))[0]
    defective = (turn @ jordan(40, -0.1) @ turn.T).float()
    for method in ("eigenvalues", "sign"):
        found = inertia(defective, method=method)
        assert not found.converged or found.negative <= 40 <= found.negative + found.zero


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e-170, 1e170])
def test_measures_of_nonnormality_and_norms_have_no_scale(scale):
    matrix = random(40, 40)
    dtype = torch.float32 if 1e-38 < scale < 1e38 else torch.float64
    scaled = (matrix * scale).to(dtype)
    operator = DenseOperator(scaled)
    assert commutator(operator).value == pytest.approx(commutator(DenseOperator(matrix)).value, rel=1e-4)
    assert frobenius_norm(operator).value == pytest.approx(scale * float(matrix.norm()), rel=1e-5)
    assert frobenius_norm(operator, exact_limit=0).error > 0
    exact = departure_from_normality(matrix, torch.linalg.eigvals(matrix)).value
    wide = scaled.double()
    assert departure_from_normality(wide, torch.linalg.eigvals(matrix) * scale).value == pytest.approx(exact, rel=1e-4)
    for method in ("eigenvalues", "sign"):
        assert inertia(scaled, method=method).negative == inertia(matrix, method=method).negative
    inverse = PseudoInverse(DenseOperator((torch.diag(torch.arange(1.0, 6.0).double()) * scale).to(dtype)))
    found = (inverse @ torch.ones(5, dtype=dtype)).double() * scale
    torch.testing.assert_close(found, 1 / torch.arange(1.0, 6.0).double(), atol=1e-4, rtol=0)


def test_stated_errors_of_shares_cover_them():
    off, points = [], (-0.7, 0.0, 0.8)
    for seed in range(12):
        values = random(80, seed=seed)
        matrices = (
            (with_eigenvalues([value[None, None] for value in values], 0.2, seed), values),
            (with_eigenvalues(pairs_and_reals(80, seed), 0.1, seed), None),
        )
        for matrix, known in matrices:
            real = torch.linalg.eigvals(matrix).real if known is None else known
            found = spectral_distribution(DenseOperator(matrix), points, num_probes=5, degree=20, seed=seed)
            error = np.hypot(found.standard_error, found.truncation)
            true = np.array([float((real < point).double().mean()) for point in points])
            off += list(np.abs(found.below - true) <= 1.96 * error + 1e-9)
    assert np.mean(off) >= 0.93


def test_a_count_continues_a_list_that_is_known():
    """With 20 negative real parts eight are known; what the count adds is as many as these suggest."""
    real = torch.cat([-(torch.linspace(0.1, 1, 20) ** (2 / 3)), torch.linspace(0.01, 2, 580)]).double()
    matrix = with_eigenvalues([value[None, None] for value in real], 0.1, 1)
    operator = DenseOperator(matrix)
    known = eigenvalues(operator, ("SR", "LR"), (8, 1), conditions=True)
    assert not known.live.end("SR").values.real.ge(0).any()
    before = operator.num_matvecs
    count = count_negative(operator, known=known)
    assert (count.negative, count.undecided, count.error, count.method) == (20, 0, 0.0, "leftmost")
    assert operator.num_matvecs - before < 2000
    assert count == count_negative(operator)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("negative", [0, 5, 33, 200])
def test_a_list_grows_until_it_is_beyond_the_axis_where_few_are_left_of_it(negative, dtype):
    edge = -1.5 * (1 - torch.linspace(0, 0.95, negative) ** (2 / 3))
    real = torch.cat([edge, torch.linspace(0.05, 4, 420 - negative)]).double()
    matrix = with_eigenvalues([value[None, None] for value in real], 0.1, 1).to(dtype)
    operator = FunctionOperator((420, 420), dtype, "cpu", lambda X: matrix @ X, lambda Y: matrix.T @ Y)
    found = eigenvalues(operator, ("LR", "SR"), (1, 8), conditions=True, reach=0.0)
    left = found.end("SR")
    assert bool(found.converged.all())
    assert len(found.end("LR").values) == 1
    assert (float(left.values.real[-1]) > 0) == (negative < 64)
    torch.testing.assert_close(left.values.real.double(), real.sort().values[: len(left.values)], rtol=1e-3, atol=1e-3)
    if 0 < negative < 64:
        assert count_negative(operator, known=found).negative == negative
