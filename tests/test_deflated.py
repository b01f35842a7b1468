"""Matrices of which one eigenvalue has many copies, and bounds of resolvents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resdyn.linalg import DenseOperator, eigenvalues
from resdyn.linalg._deflated import Deflated, decomposition
from resdyn.linalg._diagonalised import diagonalised
from resdyn.linalg._resolvent import Resolvent
from resdyn.linalg.count import count_in

ENDS = ("all", "LR", "SR", "LM")


def shifted(n: int, rank: int, shift: float, seed: int = 0) -> np.ndarray:
    """c + Q B."""
    generator = np.random.default_rng(seed)
    low = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, n)) / (n * rank) ** 0.5
    return shift * np.eye(n) + 2 * low


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shift", "rank"), [(1.0, 120), (1.0, 128), (0.0, 60), (1.0, 200)])
def test_values_ends_and_counts_are_those_of_the_whole_matrix(shift: float, rank: int, dtype: torch.dtype) -> None:
    A, eps = shifted(300, rank, shift), float(torch.finfo(dtype).eps)
    found = eigenvalues(DenseOperator(torch.from_numpy(A).to(dtype)), ENDS, conditions=True)
    ((_, part),) = found.decomposition
    assert isinstance(part, Deflated)
    assert 0 <= len(part.Q) - rank <= 8
    true, right = np.linalg.eig(A)
    values = found.end("all").values.numpy()
    nearest = np.abs(values[:, None] - true[None]).min(axis=1)
    assert (nearest <= found.end("all").errors.numpy() + 1e-12).all()
    assert (np.abs(values - shift) < 1e3 * eps).sum() >= 300 - rank
    assert found.converged.all()
    for end, best in (("LR", true.real.max()), ("SR", true.real.min()), ("LM", np.abs(true).max())):
        part_of = found.end(end)
        outermost = part_of.values.numpy()[0]
        size = abs(outermost) if end == "LM" else outermost.real
        assert abs(size - best) <= float(part_of.errors[0]) + 1e-12
    conditions = np.linalg.norm(np.linalg.inv(right), axis=1)
    simple = np.abs(true - shift) > 0.05
    place = np.abs(part.values[:, None] / part.values.real.max() * true.real.max() - true[None, simple]).argmin(axis=0)
    assert part.conditions[place] == pytest.approx(conditions[simple], rel=1e-3 if dtype == torch.float64 else 0.1)
    count = count_in(found)
    negative = int((true.real < -1e-9).sum())
    assert count.negative <= negative <= count.negative + count.undecided - count.zero
    assert count.undecided - count.zero <= 3
    assert count.zero in ((0,) if shift else range(300 - rank - 8, 300 - rank + 1))


@pytest.mark.parametrize("expected", ["right", "too many", "wrong", "nearly right"])
@pytest.mark.parametrize("shift", [1.0, 0.0])
def test_directions_that_are_expected_save_a_search_and_decide_nothing(shift: float, expected: str) -> None:
    generator = np.random.default_rng(1)
    left, right = generator.standard_normal((300, 80)), generator.standard_normal((80, 300)) / 300
    A, other = torch.from_numpy(shift * np.eye(300) + left @ right), generator.standard_normal((300, 80))
    directions = {
        "right": left,
        "too many": np.hstack([left, other[:, :30]]),
        "wrong": other,
        "nearly right": left + 1e-6 * other,
    }[expected]
    found = eigenvalues(DenseOperator(A, torch.from_numpy(directions)), ENDS, conditions=True)
    ((_, part),) = found.decomposition
    assert isinstance(part, Deflated)
    assert len(part.Q) == (110 if expected == "too many" else 80)
    true = np.linalg.eigvals(A.numpy())
    values = found.end("all").values.numpy()
    assert (np.abs(values[:, None] - true[None]).min(axis=1) <= found.end("all").errors.numpy() + 1e-12).all()


def test_an_end_may_be_the_eigenvalue_that_is_repeated() -> None:
    """Its vectors are in the null space of what is left, with residuals that are measured."""
    generator = np.random.default_rng(0)
    Q = np.linalg.qr(generator.standard_normal((300, 40)))[0]
    A = np.eye(300) - Q @ np.diag(np.linspace(0.1, 1.5, 40)) @ Q.T
    found = eigenvalues(DenseOperator(torch.from_numpy(A)), ENDS, conditions=True)
    assert isinstance(found.decomposition[0][1], Deflated)
    assert found.end("LR").values.real.item() == pytest.approx(1, abs=1e-14)
    assert float(found.end("LR").residuals) < 1e-14
    assert float(found.end("LR").conditions) == pytest.approx(1)
    assert count_in(found).negative == int((np.linspace(0.1, 1.5, 40) > 1).sum())


def test_a_matrix_without_copies_is_not_deflated() -> None:
    generator = np.random.default_rng(0)
    assert not isinstance(decomposition(torch.from_numpy(generator.standard_normal((260, 260))))[0][1], Deflated)
    scattered = torch.from_numpy(shifted(300, 100, 0.37))  # a shift that nobody looks for
    assert not isinstance(decomposition(scattered)[0][1], Deflated)


@pytest.mark.parametrize("size", [20, 90])
def test_bounds_of_a_resolvent_hold_and_are_within_the_root_of_the_size(size: int) -> None:
    generator = np.random.default_rng(size)
    points = generator.standard_normal(30) + 1j * generator.standard_normal(30)
    A = generator.standard_normal((size, size)) / size**0.5
    found = Resolvent(diagonalised(A)).smallest(points)
    true = np.array([np.linalg.svd(A - z * np.eye(size))[1][-1] for z in points])
    assert (found <= true * (1 + 1e-9)).all()
    assert (found * size**0.5 >= true * (1 - 1e-6)).all()
    Q, B = (
        np.linalg.qr(generator.standard_normal((2 * size, size)))[0],
        generator.standard_normal((size, 2 * size)) / size,
    )
    core, whole = 0.5 * np.eye(size) + B @ Q, 0.5 * np.eye(2 * size) + Q @ B
    found = Resolvent(diagonalised(core), np.linalg.qr(B.T)[1].T, 0.5).smallest(points)
    true = np.array([np.linalg.svd(whole - z * np.eye(2 * size))[1][-1] for z in points])
    assert (found <= true * (1 + 1e-9)).all()
    assert (found > 0).all()


def test_a_bad_diagonalisation_bounds_nothing() -> None:
    found = diagonalised(np.random.default_rng(0).standard_normal((70, 70)))
    object.__setattr__(found, "Y", 3 * found.Y)
    assert not Resolvent(found).smallest(np.array([0.3 + 0.1j])).any()
