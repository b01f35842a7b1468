"""The k values at an end that `eigenvalues` calls converged are the outermost k, copies of repeated ones included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resdyn.linalg import FunctionOperator, eigenvalues

OUTWARDS = {"LR": lambda z: z.real, "SR": lambda z: -z.real, "LM": lambda z: z.abs()}


def operator(matrix: Tensor) -> FunctionOperator:
    """By products alone, so that its structure is not looked up."""
    n = len(matrix)
    return FunctionOperator((n, n), matrix.dtype, "cpu", lambda X: matrix @ X, lambda Y: matrix.T @ Y)


def similar(real: Tensor, pairs: list[tuple[float, float]], skew: float, seed: int) -> tuple[Tensor, Tensor, float]:
    """A matrix with these real eigenvalues and complex pairs, its eigenvalues, and how ill-conditioned they can be."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [torch.tensor([[a, b], [-b, a]], dtype=torch.float64) for a, b in pairs]
    inner = torch.block_diag(real.diag(), *blocks)
    n = len(inner)
    mixing = torch.randn(n, n, generator=generator, dtype=torch.float64)
    basis = torch.eye(n).double() + skew * mixing / n**0.5 if skew else torch.linalg.qr(mixing)[0]
    values = torch.tensor(
        [*real.tolist(), *(complex(a, b) for a, b in pairs), *(complex(a, -b) for a, b in pairs)],
        dtype=torch.complex128,
    )
    return basis @ inner @ torch.linalg.inv(basis), values, float(torch.linalg.cond(basis))


def check(matrix: Tensor, values: Tensor, condition: float, end: str, k: int, seed: int = 0) -> bool:
    """Whether all k converged; if so they are the outermost ones."""
    result = eigenvalues(operator(matrix), end, k, method="krylov_schur", seed=seed)
    found = OUTWARDS[end](result.values.to(torch.complex128))
    true = OUTWARDS[end](values).sort(descending=True).values[: len(found)]
    tol = torch.finfo(matrix.dtype).eps ** (2 / 3)
    close = float((found - true).abs().max()) <= 20 * tol * condition * float(values.abs().max())
    assert close or not bool(result.converged.all())
    assert k <= len(found) <= k + 1
    return bool(result.converged.all())


CLUSTER = st.tuples(st.integers(2, 12), st.floats(-3, 3), st.sampled_from([0.0, 1e-14, 1e-9, 1e-6, 1e-3]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(CLUSTER, max_size=3),
    st.lists(st.tuples(st.floats(-2, 2), st.floats(0.1, 3)), max_size=5),
    st.sampled_from([0.0, 0.2, 0.4]),
    st.integers(1, 8),
    st.sampled_from(list(OUTWARDS)),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**20),
)
def test_no_end_of_a_clustered_spectrum_is_converged_and_wrong(clusters, pairs, skew, k, end, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(60, generator=generator, dtype=torch.float64) * 0.5]
    for count, center, width in clusters:
        parts.append(center * (1 + width * torch.rand(count, generator=generator, dtype=torch.float64)))
    matrix, values, condition = similar(torch.cat(parts), pairs, skew, seed)
    check(matrix.to(dtype), values, condition, end, k, seed)


@pytest.mark.parametrize("end", list(OUTWARDS))
@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_forty_copies_of_the_outermost_value_fill_every_place(k, end):
    sign = -1 if end == "SR" else 1
    real = sign * torch.cat([torch.full((40,), 3.0), torch.linspace(2.9, -1, 360)]).double()
    matrix, values, condition = similar(real, [], 0.3, seed=1)
    assert check(matrix, values, condition, end, k)
    result = eigenvalues(operator(matrix), end, k)
    assert len(result.values) == k
    torch.testing.assert_close(result.values.real, torch.full((k,), 3.0 * sign).double())
    assert bool((result.values.imag == 0).all())


def test_two_copies_in_a_dense_matrix_are_two_real_values_and_no_pair():
    matrix, _, _ = similar(torch.cat([torch.tensor([3.0, 3.0]), torch.linspace(1, 0, 30)]).double(), [], 0.3, seed=0)
    result = eigenvalues(operator(matrix), "LR", 1)
    assert result.method == "dense"
    assert result.values.tolist() == pytest.approx([3.0])


def test_without_products_left_to_search_again_nothing_is_converged():
    real = torch.cat([torch.tensor([9.0, 8.0]), torch.linspace(1, 0, 398)]).double()
    matrix, _, _ = similar(real, [], 0.0, seed=0)
    enough = eigenvalues(operator(matrix), "LR", 2)
    assert bool(enough.converged.all())
    stopped = eigenvalues(operator(matrix), "LR", 2, max_matvecs=45)
    assert float(stopped.residuals.max()) < 1e-10
    assert not bool(stopped.converged.any())
