"""How large a block's Jacobian is and how many eigenvalues it has, from the shapes of its states alone.

The Jacobian of a block that maps states of shape (C, H, W) to (C', H', W') is a matrix of C'H'W' rows and CHW
columns, the reading `flattened`. Unflattened it is an array (C', H', W', C, H, W), which `torch.linalg.eigvals`
takes as a stack of H x W matrices, one for each output element and input channel: the reading `slices`, whose
eigenvalues are not those of the block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from resdyn.errors import InputError

Reading = Literal["flattened", "slices"]


def jacobian_elements(shape_in: Sequence[int], shape_out: Sequence[int]) -> int:
    """Elements of the Jacobian, prod(shape_out) * prod(shape_in).

    Args:
        shape_in: Shape of the block's input.
        shape_out: Shape of its output.

    Returns:
        The number of elements.

    Raises:
        InputError: A shape that is not of positive sizes.

    Source:
        tables 10 and 11 of "Block-level stiffness analysis of residual networks".

    Example:
        >>> jacobian_elements((64, 16, 16), (128, 8, 8))
        134217728
    """
    _check(shape_in, shape_out)
    return math.prod(shape_out) * math.prod(shape_in)


def eigenvalue_count(shape_in: Sequence[int], shape_out: Sequence[int], reading: Reading = "flattened") -> int:
    """Eigenvalues of the Jacobian, counted with multiplicity, by either reading; 0 where no matrix is square.

    `flattened`: n = prod(shape_in) if the states have equal sizes. `slices`: H for each of the
    prod(shape_out) * C slices of H x W, what `torch.linalg.eigvals` returns for the array of shape
    (*shape_out, *shape_in); of flat states the only slice is the Jacobian itself.

    Args:
        shape_in: Shape of the block's input.
        shape_out: Shape of its output.
        reading: "flattened" or "slices".

    Returns:
        The number of eigenvalues, 0 where no matrix is square.

    Raises:
        InputError: Another reading, or a shape that is not of positive sizes.

    Source:
        tables 10 and 11 of "Block-level stiffness analysis of residual networks", which count so.

    Example:
        >>> eigenvalue_count((64, 16, 16), (64, 16, 16)), eigenvalue_count((64, 16, 16), (64, 16, 16), "slices")
        (16384, 16777216)
        >>> eigenvalue_count((64, 16, 16), (128, 8, 8)), eigenvalue_count((64, 16, 16), (128, 8, 8), "slices")
        (0, 8388608)
    """
    _check(shape_in, shape_out)
    if reading == "flattened":
        rows, columns = math.prod(shape_out), math.prod(shape_in)
        return columns if rows == columns else 0
    if reading == "slices":
        *stacked, rows, columns = (*shape_out, *shape_in)
        return math.prod(stacked) * columns if rows == columns else 0
    raise InputError(f"got reading={reading!r}, expected 'flattened' or 'slices'")


def _check(shape_in: Sequence[int], shape_out: Sequence[int]) -> None:
    if not shape_in or not shape_out or min(*shape_in, *shape_out) < 1:
        raise InputError(f"got shapes {tuple(shape_in)} and {tuple(shape_out)}, expected positive sizes")
