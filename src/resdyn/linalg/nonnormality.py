"""How far an operator is from normal: where eigenvalues stop telling what it does."""

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
    """``value`` Henrici's departure relative to ||A||_F (0 normal, 1 nilpotent), ``norm`` ||A||_F."""

    value: float
    norm: float


class Commutator(NamedTuple):
    """``value`` an estimate of ||A A^T - A^T A||_F / ||A||_F^2 and its ``standard_error`` over random probes."""

    value: float
    standard_error: float


@full_precision()
def numerical_abscissa(operator: LinearOperator, *, tol: float | None = None, seed: int = 0) -> EigenResult:
    """The ends of the spectrum of (A + A^T) / 2: max and min of x^T A x over unit real x ("LR" and "SR").

    The largest is d/dt ||exp(tA)|| at t = 0, so it bounds the growth that a nonnormal A can cause although all its
    eigenvalues say decay; it is at least the largest real part of an eigenvalue of A. Cost: two matvecs a step.
    Source: Trefethen and Embree (2005), section 17.

    >>> from resdyn.linalg import DenseOperator
    >>> numerical_abscissa(DenseOperator(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))).values.real
    tensor([ 1., -1.])
    """
    return eigenvalues(0.5 * (operator + operator.adjoint), ("LR", "SR"), tol=tol, seed=seed)


@full_precision()
def departure_from_normality(matrix: Tensor, values: Tensor) -> Departure:
    """sqrt(||A||_F^2 - sum |lambda|^2) / ||A||_F for a matrix (n, n) and all its eigenvalues (n,).

    The Frobenius norm of the strictly upper part of any Schur form. Source: Henrici (1962).

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
    """||A A^T - A^T A||_F / ||A||_F^2, estimated without the matrix; 0 exactly for a normal A.

    E ||C g||^2 = ||C||_F^2 for g with independent entries of variance one (Girard 1989, Hutchinson 1990); the error of
    the ratio is that of first order. With d Henrici's departure (relative), d^2 >= value^2 / 6
    (Elsner and Paardekooper 1987). Costs 4 matvecs a probe and one.
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
