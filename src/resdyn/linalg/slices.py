"""The eigenvalues of every spatial slice of a Jacobian between feature maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn._display import Displayed, Table, table
from resdyn._numerics import full_precision
from resdyn.errors import InputError
from resdyn.linalg._orthonormal import random_rows
from resdyn.linalg.operator import LinearOperator

Maps = tuple[int, int, int]


@dataclass(frozen=True, repr=False)
class SliceEigenvalues(Displayed):
    """Eigenvalues of the matrices J[c', h', w', c, :, :] (H, W), H = W, of a Jacobian (C', H', W') x (C, H, W).

    Attributes:
        values: (m,) complex128, those of the principal submatrices that are not zero by their pattern.
        errors: (m,) ``eps ||slice||_F`` for each, near the axis times its condition, at most ``eps^(1/s) ||slice||_F``
            for an s x s window (what a defective one moves by): a value this near to the axis has no sign.
        num_values: all of them, C' H' W' C H; num_values - m are exactly 0.
        num_matvecs: products spent.
    """

    values: NDArray[np.complex128]
    errors: NDArray[np.float64]
    num_values: int
    num_matvecs: int

    def _table(self) -> Table:
        rows = zip(self.values.tolist(), self.errors.tolist(), strict=True)
        return table(
            f"{self.num_values} eigenvalues of slices, {self.num_values - len(self.values)} of them exactly 0",
            ("eigenvalue", "error"),
            [(f"{value:.6g}", f"{error:.1e}") for value, error in rows],
            f"{self.num_matvecs} products",
        )


class _Window(NamedTuple):
    """Rows and columns [start, stop) that an output position reads."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shared(self) -> slice:
        """Indices that are both, the principal submatrix outside of which everything is zero."""
        start, stop = max(self.rows[0], self.columns[0]), min(self.rows[1], self.columns[1])
        return slice(start, max(start, stop))


@full_precision()
def slice_eigenvalues(operator: LinearOperator, shape_out: Maps, shape_in: Maps) -> SliceEigenvalues:
    """All eigenvalues of all slices J[c', h', w', c, :, :], exactly, without decomposing a slice.

    ``torch.linalg.eigvals`` of an unflattened Jacobian (C', H', W', C, H, W) takes each H x W slice as a matrix. Such a
    slice says how one output element depends on one input map, and is not a linear map of anything; its eigenvalues are
    what the tables of "Block-level stiffness analysis of residual networks" were made with.

    An output position (h', w') reads a window of rows R and columns Q; a slice is zero outside R x Q, so its nonzero
    eigenvalues are those of the principal submatrix on the indices in both, and all are zero where R and Q share none.
    Windows come from one product with J^T per position (a random mixture of its output channels); then positions with
    disjoint windows share a product.

    Args:
        operator: J, of shape (C' H' W', C H W), both sides flattened in row-major order.
        shape_out: (C', H', W').
        shape_in: (C, H, W) with H = W.

    Returns:
        The values that are not zero by their pattern, in no particular order, and the number of all.

    Raises:
        InputError: an operator that does not fit the shapes, or input maps that are not square.

    Cost:
        H' W' matvecs for the windows, then C' per class of positions with disjoint windows instead of C' H' W' in all:
        for 3 x 3 convolutions twice, 5 x 5 windows, H' W' + 25 C'.

    Source:
        Anonymous, "Block-level stiffness analysis of residual networks", tables 2-11.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> slices = slice_eigenvalues(DenseOperator(torch.eye(4)), (1, 2, 2), (1, 2, 2))
        >>> sorted(slices.values.real.tolist()), slices.num_values
        ([1.0, 1.0], 8)
    """
    _check(operator, shape_out, shape_in)
    before = operator.num_matvecs
    windows = _windows(operator, shape_out, shape_in)
    values, errors = [], []
    for position, rows in _rows(operator, shape_out, shape_in, windows):
        window = windows[position]
        assert window is not None, "only positions that read something are yielded"
        shared = window.shared
        nonzero, error = _eigenvalues(rows[..., shared, shared].reshape(-1, *(2 * [shared.stop - shared.start])))
        values.append(nonzero)
        errors.append(error)
    channels, height, width = shape_out
    return SliceEigenvalues(
        values=np.concatenate(values) if values else np.zeros(0, complex),
        errors=np.concatenate(errors) if errors else np.zeros(0),
        num_values=channels * height * width * shape_in[0] * shape_in[1],
        num_matvecs=operator.num_matvecs - before,
    )


def _check(operator: LinearOperator, shape_out: Maps, shape_in: Maps) -> None:
    sizes = tuple(int(torch.Size(shape).numel()) for shape in (shape_out, shape_in))
    if len(shape_out) != 3 or len(shape_in) != 3 or operator.shape != sizes:
        raise InputError(f"got {operator!r} for maps {shape_out} <- {shape_in}; expected (C', H', W') and (C, H, W)")
    if shape_in[1] != shape_in[2]:
        raise InputError(f"got input maps of {shape_in[1]} x {shape_in[2]}; slices have eigenvalues only where H = W")


def _windows(operator: LinearOperator, shape_out: Maps, shape_in: Maps) -> list[_Window | None]:
    """What each output position (row-major) reads; None where it reads nothing."""
    channels, height, width = shape_out
    generator = torch.Generator().manual_seed(0)
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    mixture = random_rows(1, channels, generator, like)[0]
    windows: list[_Window | None] = []
    for start in range(0, height * width, 256):
        positions = torch.arange(start, min(start + 256, height * width))
        cotangents = like.new_zeros(len(positions), channels, height * width)
        cotangents[torch.arange(len(positions)), :, positions] = mixture
        rows = operator.rmatmat(cotangents.reshape(len(positions), -1).T).T.reshape(-1, *shape_in)
        touched = (rows != 0).any(dim=1).cpu()
        windows += [_window(map_) for map_ in touched]
    return windows


def _window(touched: Tensor) -> _Window | None:
    rows, columns = touched.any(dim=1).nonzero()[:, 0], touched.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return None
    return _Window((int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1))


def _rows(
    operator: LinearOperator, shape_out: Maps, shape_in: Maps, windows: list[_Window | None]
) -> Iterator[tuple[int, Tensor]]:
    """(position, J[:, position, :, :, :] (C', C, H, W), right inside the window of the position) where it matters."""
    channels, height, width = shape_out
    useful = [p for p, window in enumerate(windows) if window is not None and window.shared.stop > window.shared.start]
    strides = _stride(windows, height, width, 0), _stride(windows, height, width, 1)
    classes: dict[tuple[int, int], list[int]] = {}
    for position in useful:
        classes.setdefault((position // width % strides[0], position % width % strides[1]), []).append(position)
    for members in classes.values():
        cotangents = torch.zeros(channels, channels, height * width, dtype=operator.dtype, device=operator.device)
        # windows within a class are disjoint, and positions that read nothing do not interfere
        cotangents[torch.arange(channels)[:, None], torch.arange(channels)[:, None], torch.tensor(members)] = 1
        rows = operator.rmatmat(cotangents.reshape(channels, -1).T).T.reshape(channels, *shape_in)
        for position in members:
            yield position, rows


def _stride(windows: list[_Window | None], height: int, width: int, axis: int) -> int:
    """The smallest distance along an axis from which on windows of positions that far apart are disjoint."""
    length = (height, width)[axis]
    spans: list[tuple[int, int] | None] = [None] * length
    for position, window in enumerate(windows):
        if window is not None:
            index = (position // width, position % width)[axis]
            low, high = window[axis]
            old = spans[index]
            spans[index] = (low, high) if old is None else (min(low, old[0]), max(high, old[1]))
    for stride in range(1, length):
        apart = range(length - stride)
        if all(_disjoint(spans[i], spans[j]) for i in apart for j in range(i + stride, length, stride)):
            return stride
    return length


def _disjoint(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    return a is None or b is None or a[1] <= b[0] or b[1] <= a[0]


def _eigenvalues(matrices: Tensor) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Eigenvalues of small matrices (count, s, s) that are not zero, with their backward errors."""
    eps = torch.finfo(matrices.dtype).eps
    batch = matrices.cpu().double().numpy()
    batch = batch[np.abs(batch).max(axis=(1, 2)) > 0]
    values = batch[:, :, 0].astype(complex) if batch.shape[1] == 1 else np.linalg.eigvals(batch).astype(complex)
    largest = np.abs(batch).max(axis=(1, 2))  # squares of what is far from one would leave the dtype
    sizes = largest * np.linalg.norm(batch / largest[:, None, None], axis=(1, 2))
    errors = np.repeat(eps * sizes[:, None], batch.shape[1], axis=1)
    # rounding moves no eigenvalue of an s x s matrix further than about eps^(1/s) of its norm: conditions matter within
    widest = eps ** (1 / batch.shape[1]) * sizes
    near = (np.abs(values.real.reshape(errors.shape)) <= widest[:, None]).any(axis=1)
    if batch.shape[1] > 1 and near.any():
        values[near], conditions = _with_conditions(batch[near] / largest[near, None, None])
        values[near] *= largest[near, None]
        errors[near] = np.minimum(errors[near] * conditions, widest[near, None])
    return values.reshape(-1), errors.reshape(-1)


def _with_conditions(batch: NDArray[np.float64]) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Eigenvalues (count, s) and their conditions; infinite where a matrix is defective."""
    values, right = np.linalg.eig(batch)
    regular = np.abs(np.linalg.det(right)) > np.finfo(float).tiny ** 0.25
    left = np.linalg.inv(np.where(regular[:, None, None], right, np.eye(batch.shape[1])))
    conditions = np.where(regular[:, None], np.linalg.norm(left, axis=2), np.inf)
    return values, conditions
