"""The ends of a spectrum: which eigenvalues come first, from each extreme inwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

OUTWARDS: dict[str, Callable[[Complex], NDArray[np.float64]]] = {
    "LR": lambda values: values.real,
    "SR": lambda values: -values.real,
    "LM": lambda values: np.abs(values),
}


def ordered(values: Complex, which: str, advance: NDArray[np.float64] | float = 0.0) -> NDArray[np.intp]:
    """Positions of the values of an end from its extreme inwards, each moved outwards by its advance."""
    return np.argsort(-(OUTWARDS[which](values) + advance), kind="stable")


def without_rounding(values: Complex, slack: float) -> Complex:
    """Values without the imaginary parts that rounding has given to copies of a real eigenvalue."""
    return np.where(np.abs(values.imag) <= slack, values.real + 0j, values)


def leading(values: Complex, which: str, k: int, advance: NDArray[np.float64] | float = 0.0) -> NDArray[np.intp]:
    """Positions of the k first values in an order, and one more where that would split a conjugate pair."""
    order = ordered(values, which, advance)
    chosen = order[:k]
    last = values[chosen[-1]]
    split = last.imag != 0 and np.sum(values[chosen] == last) > np.sum(values[chosen] == last.conj())
    return order[: k + 1] if split else chosen


class Converged(NamedTuple):
    """Values that have converged, and the distance within which another one counts as the same."""

    values: Complex
    distance: float

    def advance(self, values: Complex) -> NDArray[np.float64]:
        """How far values are moved outwards before they are ordered: ten distances for those that have converged."""
        if not len(self.values):
            return np.zeros(len(values))
        apart = np.abs(values[:, None] - self.values[None]).min(axis=1)
        return np.where(apart <= self.distance, 10 * self.distance, 0.0)
