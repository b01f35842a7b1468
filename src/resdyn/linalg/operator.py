"""Matrix-free linear operators: two hooks, and everything else built from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from resdyn.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

Index = slice | Tensor
_WIDTH = 128  # columns of a product on a CPU, beyond which their intermediate values leave its caches


class LinearOperator(ABC):
    """A linear map ``y = A x`` from R^n to R^m that is known only through its products.

    A subclass implements two hooks: ``_matmat(X)`` maps a matrix of shape (n, k) to ``A X`` (m, k), and
    ``_rmatmat(Y)`` maps (m, k) to ``A^T Y`` (n, k). The base class checks shape, dtype and device once, accepts
    vectors as well as matrices, and counts products. Operators can be added, subtracted, scaled, transposed and
    composed (``A @ B``). Products carry no gradients, so parameters can serve as matrices.

    Args:
        shape: (m, n), both positive.
        dtype: of the vectors that the operator takes and returns; a real floating type.
        device: of those vectors.

    Attributes:
        shape: (m, n).
        dtype: of the vectors that the operator takes and returns.
        device: of those vectors.
        num_matvecs: products with A plus products with A^T so far, one per column.

    Raises:
        InputError: a shape that is not two positive sizes, or a dtype that is not a real floating type.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> A = DenseOperator(torch.diag(torch.tensor([1.0, 2.0])))
        >>> (A + A.T) @ torch.ones(2), A.num_matvecs
        (tensor([2., 4.]), 2)
    """

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"got an operator shape {tuple(shape)}; expected two positive sizes (m, n)")
        if not dtype.is_floating_point:
            raise InputError(f"got dtype {dtype}; expected a real floating type such as torch.float32")
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_matvecs = 0

    @abstractmethod
    def _matmat(self, X: Tensor) -> Tensor:
        """``A X`` for X of shape (n, k)."""

    @abstractmethod
    def _rmatmat(self, Y: Tensor) -> Tensor:
        """``A^T Y`` for Y of shape (m, k)."""

    def matmat(self, X: Tensor) -> Tensor:
        """The product ``A X``.

        Args:
            X: (n, k), in the operator's dtype and on its device.

        Returns:
            (m, k).

        Raises:
            InputError: a wrong shape, dtype or device; or a hook that returned a wrong shape or dtype.

        Cost:
            k matvecs.
        """
        return self._apply(self._matmat, X, self.shape[1], self.shape[0], "A X")

    def rmatmat(self, Y: Tensor) -> Tensor:
        """The product ``A^T Y``.

        Args:
            Y: (m, k), in the operator's dtype and on its device.

        Returns:
            (n, k).

        Raises:
            InputError: a wrong shape, dtype or device; or a hook that returned a wrong shape or dtype.

        Cost:
            k matvecs.
        """
        return self._apply(self._rmatmat, Y, self.shape[0], self.shape[1], "A^T Y")

    def matvec(self, x: Tensor) -> Tensor:
        """The product ``A x`` with a single vector.

        Args:
            x: (n,), in the operator's dtype and on its device.

        Returns:
            (m,).

        Raises:
            InputError: a wrong shape, dtype or device.

        Cost:
            1 matvec.
        """
        _check_vector(x, self.shape[1])
        return self.matmat(x[:, None])[:, 0]

    def rmatvec(self, y: Tensor) -> Tensor:
        """The product ``A^T y`` with a single vector.

        Args:
            y: (m,), in the operator's dtype and on its device.

        Returns:
            (n,).

        Raises:
            InputError: a wrong shape, dtype or device.

        Cost:
            1 matvec.
        """
        _check_vector(y, self.shape[0])
        return self.rmatmat(y[:, None])[:, 0]

    @property
    def adjoint(self) -> LinearOperator:
        """``A^T`` as an operator (n, m); its products count for A too."""
        return AdjointOperator(self)

    @property
    def T(self) -> LinearOperator:
        """The same as ``adjoint``."""
        return self.adjoint

    def restricted(self, rows: Index | None = None, cols: Index | None = None) -> LinearOperator:
        """The submatrix ``A[rows, cols]`` as an operator.

        Args:
            rows: output coordinates to keep: a slice, a vector of distinct indices or a boolean mask; None keeps all.
            cols: input coordinates to keep, likewise.

        Returns:
            An operator of shape (rows kept, columns kept) whose products count for A too.

        Raises:
            InputError: an index out of range, or one given twice.
        """
        return RestrictedOperator(self, rows, cols)

    def to_dense(self, memory_limit: int = 2**28) -> Tensor:
        """The matrix A, from products with unit vectors over its shorter side.

        Args:
            memory_limit: bytes that the input and output of one product may take together (default 256 MiB); products
                are chunked accordingly. The m n entries of the result come on top.

        Returns:
            (m, n), in the operator's dtype and on its device.

        Cost:
            min(m, n) matvecs.
        """
        m, n = self.shape
        out = torch.empty(m, n, dtype=self.dtype, device=self.device)
        width = max(1, memory_limit // ((m + n) * self.dtype.itemsize))
        width = min(width, _WIDTH) if self.device.type == "cpu" else width
        for start in range(0, min(m, n), width):
            chunk = slice(start, min(start + width, min(m, n)))
            if n <= m:
                out[:, chunk] = self.matmat(self._unit_columns(n, chunk))
            else:
                out[chunk] = self.rmatmat(self._unit_columns(m, chunk)).T
        return out

    def to_scipy(self) -> ScipyOperator:
        """The same operator as a ``scipy.sparse.linalg.LinearOperator``, which takes and returns NumPy arrays.

        Returns:
            A SciPy operator of the same shape and dtype; its products count for A too.
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def through(product: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
            return lambda x: product(torch.tensor(x, dtype=self.dtype, device=self.device)).cpu().numpy()

        return ScipyOperator(
            dtype=torch.empty(0, dtype=self.dtype).numpy().dtype,
            shape=self.shape,
            matvec=through(lambda x: self.matvec(x.reshape(-1))),
            rmatvec=through(lambda y: self.rmatvec(y.reshape(-1))),
            matmat=through(self.matmat),
            rmatmat=through(self.rmatmat),
        )

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    def __matmul__(self, other: Tensor | LinearOperator) -> Tensor | LinearOperator:
        if isinstance(other, LinearOperator):
            return ComposedOperator(self, other)
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return SumOperator(self, other)

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return SumOperator(self, -1.0 * other)

    def __mul__(self, factor: float) -> LinearOperator:
        return ScaledOperator(self, factor)

    __rmul__ = __mul__

    def __neg__(self) -> LinearOperator:
        return -1.0 * self

    def __repr__(self) -> str:
        m, n = self.shape
        return f"{type(self).__name__}({m} x {n}, {self.dtype}, {self.device})"

    def _apply(self, hook: Callable[[Tensor], Tensor], X: Tensor, rows: int, out_rows: int, name: str) -> Tensor:
        if X.ndim != 2 or X.shape[0] != rows:
            raise InputError(
                f"{name} got a tensor of shape {tuple(X.shape)}, expected ({rows}, k) for {self!r}; "
                "use matvec or rmatvec for a single vector"
            )
        if X.dtype != self.dtype or X.device.type != self.device.type:
            raise InputError(
                f"{name} got {X.dtype} on {X.device}, expected {self.dtype} on {self.device}; convert with .to(...)"
            )
        with torch.no_grad():
            Y = hook(X)
        if Y.shape != (out_rows, X.shape[1]) or Y.dtype != self.dtype:
            raise InputError(
                f"{name} of {self!r} gave {tuple(Y.shape)} {Y.dtype}, expected {(out_rows, X.shape[1])} {self.dtype}; "
                "its product function is wrong"
            )
        self.num_matvecs += X.shape[1]
        return Y

    def _unit_columns(self, size: int, chunk: slice) -> Tensor:
        count = chunk.stop - chunk.start
        units = torch.zeros(count, size, dtype=self.dtype, device=self.device)
        units[torch.arange(count), torch.arange(chunk.start, chunk.stop)] = 1
        return units.T


class AdjointOperator(LinearOperator):
    """The transpose ``A^T``; ``adjoint`` of it is A itself.

    Args:
        operator: A, (m, n).
    """

    def __init__(self, operator: LinearOperator) -> None:
        m, n = operator.shape
        super().__init__((n, m), operator.dtype, operator.device)
        self._operator = operator

    @property
    def adjoint(self) -> LinearOperator:
        """A itself."""
        return self._operator

    def _matmat(self, X: Tensor) -> Tensor:
        return self._operator.rmatmat(X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._operator.matmat(Y)


class ComposedOperator(LinearOperator):
    """The product ``A B``: one product with it is one with each factor.

    Args:
        left: A, (m, p).
        right: B, (p, n), of the same dtype and device.

    Raises:
        InputError: inner dimensions, dtypes or devices that do not match.
    """

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if left.shape[1] != right.shape[0]:
            raise InputError(f"cannot compose {left!r} with {right!r}: {left.shape[1]} != {right.shape[0]}")
        _check_same_kind(left, right)
        super().__init__((left.shape[0], right.shape[1]), left.dtype, left.device)
        self._left, self._right = left, right

    def _matmat(self, X: Tensor) -> Tensor:
        return self._left.matmat(self._right.matmat(X))

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._right.rmatmat(self._left.rmatmat(Y))


class SumOperator(LinearOperator):
    """The sum ``A + B``: one product with it is one with each term.

    Args:
        first: A, (m, n).
        second: B, (m, n), of the same dtype and device.

    Raises:
        InputError: shapes, dtypes or devices that do not match.
    """

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        if first.shape != second.shape:
            raise InputError(f"cannot add {first!r} and {second!r}: expected equal shapes")
        _check_same_kind(first, second)
        super().__init__(first.shape, first.dtype, first.device)
        self._first, self._second = first, second

    def _matmat(self, X: Tensor) -> Tensor:
        return self._first.matmat(X) + self._second.matmat(X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._first.rmatmat(Y) + self._second.rmatmat(Y)


class ScaledOperator(LinearOperator):
    """The multiple ``c A``.

    Args:
        operator: A, (m, n).
        factor: c.
    """

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator.shape, operator.dtype, operator.device)
        self._operator, self._factor = operator, float(factor)

    def _matmat(self, X: Tensor) -> Tensor:
        return self._factor * self._operator.matmat(X)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return self._factor * self._operator.rmatmat(Y)


class RestrictedOperator(LinearOperator):
    """The submatrix ``A[rows, cols]``: zeros are put in for omitted columns, and omitted rows are dropped.

    Args:
        operator: A, (m, n).
        rows: output coordinates to keep: a slice, a vector of distinct indices or a boolean mask; None keeps all.
        cols: input coordinates to keep, likewise.

    Raises:
        InputError: an index out of range, or one given twice.
    """

    def __init__(self, operator: LinearOperator, rows: Index | None, cols: Index | None) -> None:
        self._rows = indices(rows, operator.shape[0], operator.device)
        self._cols = indices(cols, operator.shape[1], operator.device)
        super().__init__((len(self._rows), len(self._cols)), operator.dtype, operator.device)
        self._operator = operator

    def _matmat(self, X: Tensor) -> Tensor:
        return _gather(self._operator.matmat(_scatter(X, self._cols, self._operator.shape[1])), self._rows)

    def _rmatmat(self, Y: Tensor) -> Tensor:
        return _gather(self._operator.rmatmat(_scatter(Y, self._rows, self._operator.shape[0])), self._cols)


def indices(index: Index | None, size: int, device: torch.device) -> Tensor:
    """The coordinates that a slice, an index vector or a mask selects out of ``size``."""
    chosen = torch.arange(size, device=device)
    try:
        chosen = chosen if index is None else chosen[index]
    except IndexError as error:
        raise InputError(f"got an index outside 0..{size - 1} or of the wrong kind: {error}") from error
    if chosen.ndim != 1 or len(chosen.unique()) != len(chosen):
        raise InputError("got repeated or nested indices; expected a flat selection with each index at most once")
    return chosen


def _scatter(X: Tensor, index: Tensor, size: int) -> Tensor:
    """Columns are contiguous, as Jacobians take them: several times as fast as by rows."""
    return X.new_zeros(X.shape[1], size).index_copy_(1, index, X.T).T


def _gather(Y: Tensor, index: Tensor) -> Tensor:
    return Y.T.index_select(1, index).T


def _check_vector(x: Tensor, size: int) -> None:
    if x.shape != (size,):
        raise InputError(f"got a tensor of shape {tuple(x.shape)}, expected a vector ({size},); use matmat or rmatmat")


def _check_same_kind(first: LinearOperator, second: LinearOperator) -> None:
    if first.dtype != second.dtype or first.device.type != second.device.type:
        raise InputError(f"got {first!r} and {second!r}; expected one dtype and one device")


def check_operator(operator: object) -> None:
    """Refuse what has no products, such as a plain matrix, and say how to wrap it."""
    if not isinstance(operator, LinearOperator):
        kind = type(operator).__name__
        raise InputError(f"got a {kind}; expected a LinearOperator; wrap a matrix in resdyn.linalg.DenseOperator")
