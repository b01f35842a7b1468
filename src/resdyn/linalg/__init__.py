"""Numerics on bare operators; knows no model."""

from resdyn.linalg.norm import NormEstimate, frobenius_norm
from resdyn.linalg.operator import (
    AdjointOperator,
    ComposedOperator,
    DenseOperator,
    FunctionOperator,
    LinearOperator,
    RestrictedOperator,
    ScaledOperator,
    SumOperator,
)
from resdyn.linalg.subspace import align, orthonormalise, principal_angles
from resdyn.linalg.svd import SVDResult, svd

__all__ = [
    "AdjointOperator",
    "ComposedOperator",
    "DenseOperator",
    "FunctionOperator",
    "LinearOperator",
    "NormEstimate",
    "RestrictedOperator",
    "SVDResult",
    "ScaledOperator",
    "SumOperator",
    "align",
    "frobenius_norm",
    "orthonormalise",
    "principal_angles",
    "svd",
]
