"""Lists of leftmost eigenvalues that grow until they reach a given real part."""

from __future__ import annotations

from collections.abc import Mapping

from resdyn.linalg._ends import Complex
from resdyn.linalg._krylov_schur import Growth, Request

LONGEST = 64  # length up to which a list grows
_MORE = 2  # than an expected length
_SETTLED = 0.75  # share of an expected length from which the Ritz values are counted instead
_BEYOND = 1e-3  # how far the last value is to be beyond the real part, relative to the norm


def expected_length(values: Complex, reach: float) -> float | None:
    """How long a list of leftmost values is to be so that it reaches a real part: their number grows as at an edge.

    That is, with the power 3/2 of the distance from the first one. None where it reaches that already, or where all
    values of the list are equal.
    """
    first, last = float(values[0].real), float(values[-1].real)
    return len(values) * ((reach - first) / (last - first)) ** 1.5 if first < last < reach else None


def basis_for(wanted: Mapping[str, int]) -> int:
    """Vectors that a Krylov space keeps for so many values of each end."""
    return max(40, 20 + 3 * sum(wanted.values()))


def growth_to(reach: float, size: int, most_vectors: int) -> Growth:
    """For the end "SR": longer lists until the last value is beyond ``reach``, while that seems near.

    Args:
        reach: a real part.
        size: of the matrix.
        most_vectors: in a basis.
    """

    def growth(values: Mapping[str, Complex], ritz: Complex, norm: float) -> Request | None:
        goal = reach + _BEYOND * norm
        expected = expected_length(values["SR"], goal)
        if expected is None or expected > LONGEST:
            return None
        before = int(
            (ritz.real <= goal).sum()
        )  # at last as many as there are: outer Ritz values are the first to settle
        length = max(before if before > _SETTLED * expected else int(expected), len(values["SR"])) + _MORE
        wanted = {end: len(found) for end, found in values.items()} | {"SR": min(length, size)}
        basis = min(size, basis_for(wanted))
        return Request(wanted, basis) if length > len(values["SR"]) and basis <= most_vectors else None

    return growth
