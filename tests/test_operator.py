"""Operators: the contract over all kinds, and what bad input is told."""

from __future__ import annotations

import pytest
import torch

from cases import operators
from contracts import check_operator
from resdyn.errors import InputError
from resdyn.linalg import DenseOperator, FunctionOperator

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", operators(torch.float64))
def test_every_operator_equals_its_matrix(name, dtype):
    operator, matrix = operators(dtype)[name]
    check_operator(operator, matrix)


def test_to_dense_costs_one_product_per_vector_of_the_shorter_side():
    for shape in [(5, 20), (20, 5)]:
        A = torch.ones(shape)
        operator = FunctionOperator(shape, A.dtype, "cpu", A.matmul, A.T.matmul)
        operator.to_dense(memory_limit=1)
        assert operator.num_matvecs == 5


def test_a_matrix_that_is_there_costs_nothing_to_have_or_to_restrict():
    operator = DenseOperator(torch.arange(12.0).reshape(3, 4))
    assert operator.to_dense() is operator.matrix
    assert torch.equal(operator.restricted(slice(1, 3), torch.tensor([2])).to_dense(), torch.tensor([[6.0], [10.0]]))
    assert operator.num_matvecs == 0


def test_an_adjoint_counts_its_products_for_the_operator_too():
    operator = DenseOperator(torch.ones(3, 2))
    operator.T.matmat(torch.ones(3, 4))
    assert operator.num_matvecs == 4


def test_a_wrong_shape_is_refused_with_both_shapes():
    operator = DenseOperator(torch.ones(3, 2))
    with pytest.raises(InputError, match=r"got a tensor of shape \(3, 4\), expected \(2, k\)"):
        operator.matmat(torch.ones(3, 4))
    with pytest.raises(InputError, match=r"expected a vector \(2,\)"):
        operator.matvec(torch.ones(2, 1))
    with pytest.raises(InputError, match=r"expected two positive sizes"):
        DenseOperator(torch.ones(0, 2))


def test_a_wrong_dtype_is_refused_with_both_dtypes():
    with pytest.raises(InputError, match=r"got torch.float64 .* expected torch.float32"):
        DenseOperator(torch.ones(3, 2)).matmat(torch.ones(2, 1, dtype=torch.float64))
    with pytest.raises(InputError, match="expected a real floating type"):
        DenseOperator(torch.ones(3, 2, dtype=torch.int64))


def test_a_product_function_of_the_wrong_shape_is_named():
    operator = FunctionOperator((3, 2), torch.float32, "cpu", lambda X: X, lambda Y: Y)
    with pytest.raises(InputError, match=r"gave \(2, 1\) .* expected \(3, 1\)"):
        operator.matmat(torch.ones(2, 1))


def test_operators_that_do_not_fit_are_not_combined():
    a, b = DenseOperator(torch.ones(3, 2)), DenseOperator(torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="cannot compose"):
        a @ a
    with pytest.raises(InputError, match="cannot add"):
        a + a.T
    with pytest.raises(InputError, match="one dtype"):
        a + b


def test_a_restriction_refuses_repeated_and_missing_indices():
    operator = DenseOperator(torch.ones(3, 2))
    with pytest.raises(InputError, match="repeated"):
        operator.restricted(rows=torch.tensor([1, 1]))
    with pytest.raises(InputError, match=r"outside 0\.\.2"):
        operator.restricted(rows=torch.tensor([3]))
