"""Eigenvectors of a matrix and their inverse by matrix products."""

from __future__ import annotations

import numpy as np
import pytest

from resdyn.linalg import _diagonalised as module
from resdyn.linalg._diagonalised import diagonalised


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [65, 150])
def test_vectors_and_conditions_are_those_of_lapack(size: int, dtype: type) -> None:
    A = np.random.default_rng(size).standard_normal((size, size)).astype(dtype)
    found, eps = diagonalised(A), float(np.finfo(dtype).eps)
    assert found is not None
    assert found.blocks is not None, "by products"
    values, right = np.linalg.eig(A.astype(float))
    conditions = np.linalg.norm(np.linalg.inv(right), axis=1)
    order = np.abs(found.values[:, None] - values[None]).argmin(axis=1)
    assert sorted(order) == list(range(size))
    assert found.conditions == pytest.approx(conditions[order], rel=1e5 * eps)
    assert np.linalg.norm(found.Z @ found.T @ found.Z.T - A) < 100 * eps * size
    assert np.linalg.norm(found.T @ found.right - found.right * found.values) < 1e3 * eps * size
    assert np.linalg.norm(found.left @ found.right - np.eye(size)) < 1e4 * eps * size
    factor = A[:, :3]
    lifted = found.left @ found.Z.T @ factor
    for gram, rows in (
        (found.gram_left(), found.left),
        (found.gram_left(factor), lifted),
        (found.gram_right(), found.right.conj().T),
    ):
        assert np.linalg.norm(gram - rows @ rows.conj().T) < 1e3 * eps * size * np.linalg.norm(gram)
    defects = found.X @ found.Y - np.eye(size), found.left @ found.T - found.values[:, None] * found.left
    assert found.defects() == pytest.approx([np.linalg.norm(defect) for defect in defects], rel=0.1)


def test_a_basis_of_conjugate_pairs_is_real() -> None:
    found = diagonalised(np.random.default_rng(0).standard_normal((80, 80)))
    assert found is not None
    inside = np.flatnonzero(found.values.real < 0)
    V, U = found.basis(inside)
    assert V.dtype == float
    assert pytest.approx(np.eye(len(inside)), abs=1e-9) == U @ V
    assert pytest.approx(V @ (U @ found.T @ V), abs=1e-9) == found.T @ V
    upper = np.flatnonzero(found.values.imag > 0)
    assert found.basis(upper)[0].dtype == complex


def test_where_products_lose_the_digits_lapack_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grcar's matrix has conditions beyond float64, a Jordan block has no inverse at all."""
    grcar = sum(np.eye(200, k=k) for k in range(4)) - np.eye(200, k=-1)
    found = diagonalised(grcar)
    assert found is None or found.conditions.max() > 1e10
    jordan = diagonalised(np.eye(100) + np.eye(100, k=1))
    assert jordan is None or jordan.conditions.max() > 1e10
    monkeypatch.setattr(module, "_INVERSE", 0.0)
    plain = diagonalised(np.random.default_rng(1).standard_normal((70, 70)))
    assert plain is not None
    assert plain.blocks is None
