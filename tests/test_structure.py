"""Block triangular operators: their eigenvalues are those of the diagonal blocks, whatever is beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resdyn.linalg import DenseOperator, FunctionOperator, eigenvalues
from resdyn.linalg._structure import components
from test_eig import jordan, random

ENDS = ("LR", "SR", "LM")


def block_triangular(sizes: list[int], seed: int = 0, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """(matrix, its eigenvalues): dense blocks on the diagonal, large entries below, coordinates permuted."""
    blocks = [random(size, size, seed=seed + i) / size**0.5 for i, size in enumerate(sizes)]
    matrix = torch.block_diag(*blocks)
    inside = torch.block_diag(*(torch.ones_like(block) for block in blocks)).bool()
    matrix = matrix + strength * random(*matrix.shape, seed=seed + 99).tril().masked_fill(inside, 0.0)
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(seed))
    return matrix[order][:, order], torch.cat([torch.linalg.eigvals(block) for block in blocks])


def by_products(matrix: Tensor) -> FunctionOperator:
    return FunctionOperator(tuple(matrix.shape), matrix.dtype, "cpu", matrix.matmul, matrix.T.matmul)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[5] * 60, [1] * 30 + [40, 250, 3], [7]], ids=str)
def test_components_are_found_by_products_as_in_the_matrix(sizes):
    matrix, _ = block_triangular(sizes)
    found = {tuple(sorted(part.tolist())) for part in components(by_products(matrix), torch.Generator())}
    assert found == {tuple(sorted(part.tolist())) for part in components(DenseOperator(matrix), torch.Generator())}
    assert sorted(len(part) for part in found) == sorted(sizes)


def test_a_cycle_is_one_component_and_what_leads_to_it_is_not():
    matrix = torch.diag(torch.ones(299), -1).double()
    matrix[0, 297] = 1
    found = components(by_products(matrix), torch.Generator().manual_seed(0))
    assert sorted(len(part) for part in found) == [1, 1, 298]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [[4] * 75, [230, 230]], ids=str)
def test_the_spectrum_is_exact_where_the_whole_matrix_gives_a_pseudospectrum(sizes, dtype):
    matrix, exact = block_triangular(sizes, strength=3.0)
    matrix = matrix.to(dtype)
    everything = eigenvalues(DenseOperator(matrix))
    ends = eigenvalues(by_products(matrix), ENDS, method="krylov_schur", conditions=True)
    assert everything.num_blocks == ends.num_blocks == len(sizes)
    reached = {"LR": exact.real.max(), "SR": exact.real.min(), "LM": exact.abs().max()}
    tolerance = 1e5 * torch.finfo(dtype).eps
    found = {
        "LR": everything.values.real.max(),
        "SR": everything.values.real.min(),
        "LM": everything.values.abs().max(),
    }
    for end in ENDS:
        assert float(found[end]) == pytest.approx(float(reached[end]), abs=tolerance)
        value = complex(ends.end(end).values[0])
        assert (abs(value) if end == "LM" else value.real) == pytest.approx(float(reached[end]), abs=tolerance)
    assert float(ends.errors.max()) < 0.1 * float(exact.abs().max())
    if sizes[0] < 10:
        assert float((torch.linalg.eigvals(matrix).abs().max() - reached["LM"]).abs()) > 0.1


def test_a_triangular_jordan_block_has_its_eigenvalue_exactly():
    assert bool((eigenvalues(DenseOperator(jordan(100, -0.25))).values == -0.25).all())


def test_an_operator_without_structure_costs_few_products_more():
    operator = by_products(random(300, 300))
    components(operator, torch.Generator().manual_seed(0))
    assert operator.num_matvecs <= 6


@pytest.mark.parametrize("scale", [1e-170, 1e-30, 1e20, 1e150])
def test_eigenvalues_scale_with_their_operator(scale):
    matrix = random(250, 250)
    dtype = torch.float32 if 1e-38 < scale < 1e38 else torch.float64
    plain = eigenvalues(DenseOperator(matrix), ENDS, method="krylov_schur")
    scaled = eigenvalues(DenseOperator((matrix * scale).to(dtype)), ENDS, method="krylov_schur")
    assert bool(scaled.converged.all())
    torch.testing.assert_close(scaled.values.to(torch.complex128) / scale, plain.values, atol=1e-3, rtol=0)
    assert scaled.norm / scale == pytest.approx(plain.norm, rel=0.1)


def test_no_bound_is_below_the_rounding_of_the_products():
    matrix = random(50, 50)
    for dtype in (torch.float32, torch.float64):
        found = eigenvalues(DenseOperator(matrix.to(dtype)), ENDS, method="dense")
        assert float(found.residuals.min()) >= torch.finfo(dtype).eps
