"""How far an operator is from normal, that is, how little its eigenvalues say about what it does."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn._numerics import full_precision
from resdyn.errors import InputError
from resdyn.linalg._compression import near_one
from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg._norms import column_norms, norm
from resdyn.linalg.eig import eigenvalues
from resdyn.linalg.operator import LinearOperator


class Departure(NamedTuple):
    """Henrici's departure from normality.

    Attributes:
        value: relative to ``||A||_F``: 0 for a normal, 1 for a nilpotent matrix.
        norm: ``||A||_F``.
    """

    value: float
    norm: float


class Commutator(NamedTuple):
    """The relative size of the commutator of A with its transpose.

    Attributes:
        value: an estimate of ``||A A^T - A^T A||_F / ||A||_F^2``.
        standard_error: of ``value``, over random probes.
    """

    value: float
    standard_error: float


@full_precision()
def numerical_abscissa(operator: LinearOperator, *, tol: float | None = None, seed: int = 0) -> EigenResult:
    """The ends of the spectrum of ``(A + A^T) / 2``: maximum and minimum of ``x^T A x`` over unit real x.

    The largest is ``d/dt ||exp(t A)||`` at t = 0, so it bounds the growth that a nonnormal A can cause although all its
    eigenvalues predict decay; it is at least the largest real part of an eigenvalue of A.

    Args:
        operator: A (n, n), in float32 or float64.
        tol: as in ``eigenvalues``; default eps^(2/3).
        seed: as in ``eigenvalues``.

    Returns:
        Two real values (as complex numbers), the largest (end "LR"), then the smallest (end "SR").

    Raises:
        InputError: an operator that is not square, or a dtype other than float32 and float64.
        ComputationError: a product with NaN or infinite values.

    Cost:
        Two matvecs per step of ``eigenvalues``.

    Source:
        Trefethen and Embree (2005), section 17.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> numerical_abscissa(DenseOperator(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))).values.real
        tensor([ 1., -1.])
    """
    return eigenvalues(0.5 * (operator + operator.adjoint), ("LR", "SR"), tol=tol, seed=seed)


@full_precision()
def departure_from_normality(matrix: Tensor, values: Tensor) -> Departure:
    """Henrici's departure ``sqrt(||A||_F^2 - sum |lambda|^2) / ||A||_F``.

    This is the relative Frobenius norm of the strictly upper part of any Schur form.

    Args:
        matrix: A (n, n).
        values: (n,) all eigenvalues of A, in any order.

    Returns:
        The departure, between 0 (normal) and 1 (nilpotent), and ``||A||_F``.

    Raises:
        InputError: shapes other than (n, n) and (n,).

    Source:
        Henrici (1962).

    Example:
        >>> departure_from_normality(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.zeros(2)).value
        1.0
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or values.shape != (len(matrix),):
        raise InputError(
            f"got shapes {tuple(matrix.shape)} and {tuple(values.shape)}; expected (n, n) and all n values"
        )
    size = norm(matrix)
    share = norm(values.to(torch.complex128)) / size if size else 1.0
    return Departure(max(1 - share**2, 0.0) ** 0.5, size)


@full_precision()
def commutator(operator: LinearOperator, num_probes: int = 16, seed: int = 0) -> Commutator:
    """The relative commutator ``||A A^T - A^T A||_F / ||A||_F^2``, estimated from products; 0 for a normal A.

    With C the commutator, ``E ||C g||^2 = ||C||_F^2`` for g with independent entries of variance one; the standard
    error of the ratio is to first order. With d Henrici's departure (relative), ``d^2 >= value^2 / 6``.

    Args:
        operator: A (n, n).
        num_probes: Gaussian probe vectors, at least 2 (default 16).
        seed: of the probes.

    Returns:
        The estimate and its standard error over the probes.

    Raises:
        InputError: fewer than 2 probes.
        ComputationError: a product with NaN or infinite values.

    Cost:
        4 matvecs per probe and one more.

    Source:
        Girard (1989) and Hutchinson (1990), the estimator; Elsner and Paardekooper (1987), the inequality.

    Example:
        >>> from resdyn.linalg import DenseOperator
        >>> commutator(DenseOperator(torch.diag(torch.tensor([1.0, -2.0])))).value
        0.0
    """
    num_probes = checks.whole("num_probes", num_probes, 2)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    G = torch.randn(operator.shape[1], num_probes, generator=generator, dtype=torch.float64)
    G = G.to(operator.device, operator.dtype)
    operator, _ = near_one(operator)
    forward, backward = operator.matmat(G), operator.rmatmat(G)
    squares = column_norms(operator.matmat(backward) - operator.rmatmat(forward)) ** 2
    norms = 0.5 * (column_norms(forward) ** 2 + column_norms(backward) ** 2)
    top, bottom = float(squares.mean()), float(norms.mean())
    if not top or not bottom:
        return Commutator(0.0, 0.0)
    value = top**0.5 / bottom
    relative = squares / (2 * top) - norms / bottom
    return Commutator(value, value * float(relative.std() / num_probes**0.5))
