"""Numerical linear algebra on operators known only by their products; independent of models."""

from resdyn.linalg._eigen_result import EigenResult
from resdyn.linalg.chain import ChainSpectrum, chain_singular_values
from resdyn.linalg.count import NegativeCount, count_negative
from resdyn.linalg.distribution import SpectralDistribution, spectral_distribution
from resdyn.linalg.eig import eigenvalues
from resdyn.linalg.explicit import DenseOperator, FunctionOperator
from resdyn.linalg.nonnormality import commutator, departure_from_normality, numerical_abscissa
from resdyn.linalg.norm import NormEstimate, frobenius_norm
from resdyn.linalg.operator import (
    AdjointOperator,
    ComposedOperator,
    LinearOperator,
    RestrictedOperator,
    ScaledOperator,
    SumOperator,
)
from resdyn.linalg.pseudo import PseudoInverse
from resdyn.linalg.sign import Inertia, MatrixSign, inertia, matrix_sign
from resdyn.linalg.singular import SVDResult, svd
from resdyn.linalg.slices import SliceEigenvalues, slice_eigenvalues
from resdyn.linalg.subspace import align, orthonormalise, principal_angles

__all__ = [
    "AdjointOperator",
    "ChainSpectrum",
    "ComposedOperator",
    "DenseOperator",
    "EigenResult",
    "FunctionOperator",
    "Inertia",
    "LinearOperator",
    "MatrixSign",
    "NegativeCount",
    "NormEstimate",
    "PseudoInverse",
    "RestrictedOperator",
    "SVDResult",
    "ScaledOperator",
    "SliceEigenvalues",
    "SpectralDistribution",
    "SumOperator",
    "align",
    "chain_singular_values",
    "commutator",
    "count_negative",
    "departure_from_normality",
    "eigenvalues",
    "frobenius_norm",
    "inertia",
    "matrix_sign",
    "numerical_abscissa",
    "orthonormalise",
    "principal_angles",
    "slice_eigenvalues",
    "spectral_distribution",
    "svd",
]
