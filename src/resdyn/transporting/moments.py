"""Means over samples with their spread, streamed: one pass, no sample kept, any number of parts merged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of matrices, and their sum with a random sign per sample.

    The signed sum has the mean's own error: with independent signs, (sum of s_n x_n - mean sum of s_n) / count is a
    draw of noise with the covariance of the mean's error, so its spectrum is what noise alone would show.

    Attributes:
        count: Samples so far.
        mean: Their mean, any shape.
        squares: Sum of (x - mean)^2, the same shape.
        signed: Sum of s x.
        signs: Sum of s.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    signed: np.ndarray
    signs: int

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype | str) -> Moments:
        return cls(0, np.zeros(shape, dtype), np.zeros(shape, dtype), np.zeros(shape, dtype), 0)

    def add(self, x: np.ndarray, sign: int) -> None:
        """One sample more (Welford 1962)."""
        self.count += 1
        before = x - self.mean
        self.mean += before / self.count
        self.squares += before * (x - self.mean)
        self.signed += sign * x
        self.signs += sign

    def merged(self, other: Moments) -> Moments:
        """Both together, as if their samples had come one after the other (Chan, Golub, LeVeque 1979)."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.squares + other.squares + gap * gap * (self.count * other.count / count),
            self.signed + other.signed,
            self.signs + other.signs,
        )

    @property
    def standard_error(self) -> np.ndarray:
        """Of the mean, per entry; NaN for one sample."""
        if self.count < 2:
            return np.full_like(self.mean, np.nan)
        return np.sqrt(self.squares / (self.count * (self.count - 1)))

    @property
    def noise(self) -> np.ndarray:
        """One draw of what the mean's error may be; NaN for one sample."""
        if self.count < 2:
            return np.full_like(self.mean, np.nan)
        scale = (self.count * (self.count - 1)) ** 0.5
        return (self.signed - self.signs * self.mean) / scale


def sign_of(seed: int, index: int) -> int:
    """1 or -1, at random but the same for a sample wherever it is measured."""
    return 1 if np.random.default_rng([seed, index]).random() < 0.5 else -1
