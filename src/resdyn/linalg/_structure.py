"""Block triangular structure: a matrix has the eigenvalues of the diagonal blocks that its zeros leave.

Ordered by the strongly connected components of its nonzeros (an edge j -> i where A[i, j] is not 0) a matrix is block
triangular, so det(A - z I) is the product over the components. Causal attention and causal convolutions are of this
kind; all of A together is far from normal there, each block is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from resdyn.errors import ComputationError
from resdyn.linalg.explicit import DenseOperator
from resdyn.linalg.operator import LinearOperator

_SAMPLED = 3  # coordinates whose coupling decides whether components are searched for
_WIDTH = 64  # vectors that search for components at once
_FORMED = 8192  # coordinates up to which a matrix is formed where the search takes long


def components(operator: LinearOperator, generator: torch.Generator) -> list[Tensor]:
    """Indices of the strongly connected components of the nonzeros of a square operator; one if it has no structure.

    From products alone: what a random vector on one coordinate reaches, forwards and backwards, is computed by products
    until nothing more is reached, exact except with a probability of about eps that a sum of nonzeros is 0; the
    coordinates in both are a component, and what is left splits into three parts that share none (Fleischer,
    Hendrickson and Pinar 2000). The search begins where one of three random coordinates is coupled one way to a
    tenth or more of those that it is coupled to (6 products, all that an operator without structure costs). Where it
    would take more than n products the matrix is formed instead, up to n = 8192; beyond, everything is one component.
    """
    if isinstance(operator, DenseOperator):
        return of_matrix(operator.matrix)
    n = operator.shape[0]
    if not _is_one_way(operator, generator):
        return [torch.arange(n, device=operator.device)]
    components: list[Tensor] = []
    parts = [torch.ones(n, dtype=torch.bool, device=operator.device)]
    before = operator.num_matvecs
    while parts:
        if operator.num_matvecs - before > n:
            return of_matrix(operator.to_dense()) if n <= _FORMED else [torch.arange(n, device=operator.device)]
        batch, parts = parts[:_WIDTH], parts[_WIDTH:]
        inside = torch.stack(batch, dim=1)
        start = torch.zeros_like(inside)
        for column, part in enumerate(batch):
            members = part.nonzero()[:, 0]
            start[members[int(torch.randint(len(members), (1,), generator=generator))], column] = True
        forward = _reached(operator.matmat, start, inside, operator, generator)
        backward = _reached(operator.rmatmat, start, inside, operator, generator)
        components += [column.nonzero()[:, 0] for column in (forward & backward).T]
        for rest in (forward & ~backward, backward & ~forward, inside & ~forward & ~backward):
            parts += [column for column in rest.T if bool(column.any())]
    return components


def of_matrix(matrix: Tensor) -> list[Tensor]:
    """The same for an explicit matrix."""
    nonzero = (matrix != 0).cpu().numpy()
    if nonzero.all():
        return [torch.arange(len(matrix), device=matrix.device)]
    count, labels = connected_components(csr_array(nonzero), directed=True, connection="strong")
    order = torch.from_numpy(labels).long().argsort(stable=True)
    sizes = torch.bincount(torch.from_numpy(labels).long(), minlength=count)
    return [part.to(matrix.device) for part in order.split(sizes.tolist())]


def diagonal_blocks(operator: LinearOperator, blocks: list[Tensor]) -> Iterator[Tensor]:
    """The matrices A[block, block], from one product per coordinate."""
    if isinstance(operator, DenseOperator):
        yield from (operator.matrix[block][:, block] for block in blocks)
        return
    width = max(_WIDTH, (1 << 28) // (2 * operator.shape[0] * operator.dtype.itemsize))
    for group in _groups(blocks, width):
        columns = torch.cat(group)
        units = torch.zeros(len(columns), operator.shape[1], dtype=operator.dtype, device=operator.device)
        units[torch.arange(len(columns), device=operator.device), columns] = 1
        images, start = operator.matmat(units.T), 0
        if not bool(torch.isfinite(images).all()):
            raise ComputationError("a product holds NaN or infinite values")
        for block in group:
            yield images[block, start : start + len(block)]
            start += len(block)


def _groups(blocks: list[Tensor], width: int) -> Iterator[list[Tensor]]:
    """Blocks in order, together at most ``width`` wide (or one alone)."""
    group: list[Tensor] = []
    for block in blocks:
        if group and sum(map(len, group)) + len(block) > width:
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _is_one_way(operator: LinearOperator, generator: torch.Generator) -> bool:
    """Whether some of a few random coordinates reach others that do not reach them."""
    picked = torch.randint(operator.shape[0], (_SAMPLED,), generator=generator)
    units = torch.zeros(_SAMPLED, operator.shape[0], dtype=operator.dtype, device=operator.device)
    units[torch.arange(_SAMPLED), picked] = 1
    forward, backward = operator.matmat(units.T) != 0, operator.rmatmat(units.T) != 0
    one_way = (forward ^ backward).sum(dim=0)
    return bool((10 * one_way >= (forward | backward).sum(dim=0).clamp_min(1)).any())


def _reached(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    inside: Tensor,
    operator: LinearOperator,
    generator: torch.Generator,
) -> Tensor:
    """For each column (n, k) the coordinates that its start reaches by any number of products inside its part."""
    reached, active = start.clone(), torch.arange(start.shape[1], device=start.device)
    while len(active):
        # entries between 1 and 2, so that no nonzero of the operator is lost beside a larger one
        sizes = 1 + torch.rand(len(start), len(active), generator=generator, dtype=torch.float64)
        X = sizes.to(operator.device, operator.dtype) * reached[:, active]
        new = reached[:, active] | ((product(X) != 0) & inside[:, active])
        grown = (new != reached[:, active]).any(dim=0)
        reached[:, active] = new
        # a part that has been reached entirely needs no further product
        active = active[grown & (new != inside[:, active]).any(dim=0)]
    return reached
