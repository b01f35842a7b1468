"""All eigenvalues and the ends among them from one decomposition."""

from __future__ import annotations

import pytest
import torch

from resdyn.linalg import DenseOperator, eigenvalues
from resdyn.linalg._compression import explicit
from resdyn.linalg.count import count_in

ENDS = ("all", "LR", "SR", "LM")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_ends_of_the_whole_spectrum_are_those_found_alone(dtype: torch.dtype, scale: float) -> None:
    matrix = torch.randn(120, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    matrix[7] = 0
    operator = DenseOperator(matrix * scale)
    whole, eps = eigenvalues(operator, ENDS, conditions=True), torch.finfo(dtype).eps
    assert whole.num_live == 119
    assert len(whole.end("all").values) == 120
    assert torch.equal(whole.end("all").values.real, whole.end("all").values.real.sort(descending=True).values)
    for end in ENDS[1:]:
        part, alone = whole.end(end), eigenvalues(operator, end, conditions=True)
        assert part.values / scale == pytest.approx(alone.values / scale, rel=1e4 * eps)
        assert part.conditions == pytest.approx(alone.conditions, rel=1e5 * eps)
        assert bool((part.residuals < 50 * eps).all())
        assert bool(part.converged.all())
    found = count_in(whole)
    real = torch.linalg.eigvals(matrix.double()).real
    assert found.negative <= int((real < 0).sum()) <= found.negative + found.undecided
    assert found.undecided <= 2


def test_a_triangular_matrix_has_its_diagonal_and_a_dead_one_zeros() -> None:
    triangular = torch.tensor([[2.0, 5.0, 1.0], [0.0, -1.0, 3.0], [0.0, 0.0, 0.5]])
    whole = eigenvalues(DenseOperator(triangular), ENDS, conditions=True)
    assert whole.end("all").values.real.tolist() == [2.0, 0.5, -1.0]
    assert float(whole.end("SR").values.real[0]) == -1.0
    dead = eigenvalues(DenseOperator(torch.zeros(3, 3)), ENDS, conditions=True)
    assert dead.end("all").values.abs().tolist() == dead.end("LM").values.abs().tolist() * 3
    assert count_in(dead).negative == 0


def test_a_jordan_block_falls_back_to_float64() -> None:
    jordan = torch.eye(80) + torch.eye(80).roll(1, 1).triu()
    jordan[-1, 0] = 1e-30
    whole = eigenvalues(DenseOperator(jordan), ENDS, conditions=True)
    assert whole.end("LR").conditions is not None
    assert float(whole.end("LR").conditions[0]) > 1e4


def test_an_explicit_matrix_costs_its_rows_or_columns_that_are_not_zero() -> None:
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    matrix[5:], matrix[:, 3] = 0, 0
    operator = DenseOperator(matrix).adjoint.adjoint * 1.0
    assert torch.allclose(explicit(operator, torch.Generator().manual_seed(0)), matrix)
    assert operator.num_matvecs == 4 + 5
    nothing = DenseOperator(torch.zeros(4, 3)) * 1.0
    assert not explicit(nothing, torch.Generator().manual_seed(0)).any()
