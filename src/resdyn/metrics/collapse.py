"""Neural collapse NC1-NC4, for the states of every depth and for the classifier's input features.

Class means mu_c are the rows of an array (C, d). The global mean mu_G is the mean of the class means,
m_c = mu_c - mu_G are the centred means, Sigma_B = (1/C) sum_c m_c m_c^T and Sigma_W is the pooled covariance
within classes. Pass the rows of classes that have images; everything is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from resdyn._remember import remembered
from resdyn.errors import InputError

FloatArray = NDArray[np.float64]


def centred_means(means: ArrayLike) -> FloatArray:
    """Class means minus their mean, m_c = mu_c - (1/C) sum_c' mu_c'.

    Args:
        means: (C, d), one class mean mu_c per row.

    Returns:
        (C, d), float64, in the unit of the means; the rows sum to zero up to rounding.

    Example:
        >>> centred_means([[0.0, 2.0], [4.0, 2.0]]).tolist()
        [[-2.0, 0.0], [2.0, 0.0]]
    """
    means = np.asarray(means, dtype=np.float64)
    centred: FloatArray = means - means.mean(0)
    return centred


def within_class_variability(means: ArrayLike, within_projected: ArrayLike) -> float:
    """NC1, tr(Sigma_W Sigma_B^+) / C, from the class means and W_cc' = m_c^T Sigma_W m_c' alone.

    With A = (m_1 .. m_C)^T, (C, d), Sigma_B = A^T A / C, whose pseudo-inverse is C A^T (A A^T)^{+2} A; hence
    NC1 = tr(W (A A^T)^{+2}): the two factors C cancel. A has the exact null vector of ones, so it is first
    reduced to C - 1 orthonormal contrasts H (rows orthogonal to ones): H W H^T and H A replace W and A, which
    also makes the result independent of the centre used for W. Directions in which the class means differ
    by less than the rounding of the stored means (eps of their dtype times their norm) count as null.

    0 when each class is a point. Cost: one SVD of (C-1, d). NaN when the class means coincide.

    Args:
        means: (C, d), the class means.
        within_projected: (C, C), W_cc' = m_c^T Sigma_W m_c'.

    Returns:
        0 when each class is a point; NaN when the class means coincide.

    Source:
        Papyan, Han and Donoho (2020), NC1.
    """
    projected = np.asarray(within_projected, dtype=np.float64)
    contrasts = _contrasts(projected.shape[0])
    left, values, _ = np.linalg.svd(contrasts @ np.asarray(means, dtype=np.float64), full_matrices=False)
    kept = values > _rounding(means)
    if not kept.any():
        return float("nan")
    rotated = left[:, kept].T @ contrasts @ projected @ contrasts.T @ left[:, kept]
    # Divided one side at a time: the fourth power of a small singular value could underflow.
    return float(np.sum(np.diagonal(rotated) / values[kept] ** 2 / values[kept] ** 2))


def within_between_ratio(means: ArrayLike, within_trace: ArrayLike, counts: ArrayLike) -> float:
    """Ratio of the scatters, tr(Sigma_W) / tr(Sigma_B), with tr(Sigma_W) = sum_c n_c t_c / N.

    `within_trace` (C,): t_c = (1/n_c) sum |h - mu_c|^2; `counts` (C,): n_c. A coarser reading of NC1:
    it weighs all directions equally, also those in which the class means do not differ. NaN when the means
    coincide.

    Args:
        means: (C, d), the class means.
        within_trace: (C,), t_c = (1/n_c) sum |h - mu_c|^2.
        counts: (C,), n_c, images per class.

    Returns:
        0 when each class is a point; NaN when the means coincide.
    """
    counts = np.asarray(counts, dtype=np.float64)
    within = float(counts @ np.asarray(within_trace, dtype=np.float64) / counts.sum())
    norms = _norms(means)
    return _ratio(within, float(np.mean(norms**2)))


def equinorm(means: ArrayLike) -> float:
    """NC2, coefficient of variation of the centred norms, std_c |m_c| / mean_c |m_c| (std divides by C).

    0 for a simplex equiangular tight frame, and always for two classes. NaN when the means coincide.

    Args:
        means: (C, d), the class means.

    Returns:
        0 for a simplex equiangular tight frame, and always for two classes; NaN when the means coincide.

    Source:
        Papyan, Han and Donoho (2020), NC2, figure 2.
    """
    norms = _norms(means)
    return _ratio(float(norms.std()), float(norms.mean()))


def equiangularity(means: ArrayLike) -> float:
    """NC2, standard deviation over pairs c != c' of the cosines between m_c and m_c'.

    0 for a simplex equiangular tight frame, and always for two classes. Pairs with m_c = 0 have no angle and
    are left out; NaN when no pair is left.

    Args:
        means: (C, d), the class means.

    Returns:
        0 for a simplex equiangular tight frame, and always for two classes; NaN when no pair has an angle.

    Source:
        Papyan, Han and Donoho (2020), NC2, figure 3.
    """
    cosines = _pair_cosines(means)
    return float(cosines.std()) if cosines.size else float("nan")


def maximal_angle(means: ArrayLike) -> float:
    """NC2, mean over pairs c != c' of |cos(m_c, m_c') + 1/(C-1)|.

    0 for a simplex equiangular tight frame, and always for two classes; pairs as in `equiangularity`.

    Args:
        means: (C, d), the class means.

    Returns:
        0 for a simplex equiangular tight frame, and always for two classes; NaN when no pair has an angle.

    Source:
        Papyan, Han and Donoho (2020), NC2, figure 4.
    """
    cosines = _pair_cosines(means)
    return float(np.abs(cosines + 1 / (len(np.asarray(means)) - 1)).mean()) if cosines.size else float("nan")


def self_duality(means: ArrayLike, weight: ArrayLike, *, centre_weight: bool = False) -> float:
    """NC3, || W / |W|_F - M / |M|_F ||_F with the rows of W the classifier's and of M the centred means.

    0 when classifier and class means are proportional, sqrt(2) when orthogonal, at most 2. W is used as it
    is, as in the source; `centre_weight=True` first subtracts its mean row, which no decision depends on.

    Args:
        means: (C, d), the class means.
        weight: (C, d), the classifier's rows.
        centre_weight: Subtract the mean row of W first, which no decision depends on.

    Returns:
        0 when proportional, sqrt(2) when orthogonal, at most 2; NaN when either is zero.

    Raises:
        InputError: `means` and `weight` differ in shape.

    Source:
        Papyan, Han and Donoho (2020), NC3.
    """
    centred, weight = centred_means(means), np.asarray(weight, dtype=np.float64)
    if centred.shape != weight.shape:
        raise InputError(
            f"got a classifier of shape {weight.shape}, expected {centred.shape} as the class means: "
            "NC3 needs one row per class over the same features"
        )
    weight = centred_means(weight) if centre_weight else weight
    scale, norm = float(np.linalg.norm(weight)), float(np.linalg.norm(centred))
    if scale == 0 or norm <= _rounding(means):
        return float("nan")
    return float(np.linalg.norm(weight / scale - centred / norm))


def nearest_mean_disagreement(agrees: ArrayLike) -> FloatArray:
    """NC4, 1 - share of the images whose nearest class mean is the class that the network predicts.

    0 when the network decides by the nearest class mean.

    Args:
        agrees: Shares of agreement, any shape.

    Returns:
        Shares of the same shape, 0 when the network decides by the nearest class mean.

    Source:
        Papyan, Han and Donoho (2020), NC4.
    """
    return 1.0 - np.asarray(agrees, dtype=np.float64)


@remembered
def neural_collapse(ds: xr.Dataset) -> xr.Dataset:
    """NC1-NC4 of a stored features probe.

    Classes without images are left out. NaN everywhere with fewer than two classes.

    Args:
        ds: A dataset with the features probe.

    Returns:
        A dataset of float64 numbers; `attrs["empty_classes"]` lists the indices of the classes left out.

        - With dim (depth,): `within_class_variability`, `within_between_ratio`, `equinorm`, `equiangularity`,
          `maximal_angle`, `nearest_mean_disagreement`, the functions of these names.
        - Without dims: the same with the prefix `feature_` for the input of the classifier, and `feature_self_duality`,
          where these are stored.

    Source:
        Papyan, Han and Donoho (2020), NC1-NC4.
    """
    present = ds["class_count"].values > 0
    parts: dict[str, tuple[Any, ...]] = {}
    if "class_mean" in ds:
        rows = [_depth_collapse(ds, depth, present) for depth in range(ds.sizes["depth"])]
        parts |= {name: ("depth", np.array([row[name] for row in rows])) for name in rows[0]}
    if "nearest_mean_agrees" in ds:
        parts["nearest_mean_disagreement"] = (
            "depth",
            nearest_mean_disagreement(ds["nearest_mean_agrees"].values),
        )
    parts |= {f"feature_{name}": ((), value) for name, value in _feature_collapse(ds, present).items()}
    coords = {"depth": ds["depth"]} if "depth" in ds.coords else {}
    return xr.Dataset(parts, coords=coords, attrs={"empty_classes": np.flatnonzero(~present).tolist()})


def _depth_collapse(ds: xr.Dataset, depth: int, present: NDArray[Any]) -> dict[str, float]:
    here = ds.isel(depth=depth)
    size = int(here["state_size"])
    means = here["class_mean"].transpose("class", "coord").values[present, :size]
    return _collapse(means, here["within_projected"].values, here["within_trace"].values, ds, present)


def _feature_collapse(ds: xr.Dataset, present: NDArray[Any]) -> dict[str, float]:
    """What can be said of the classifier's input features; empty when they are not stored."""
    parts: dict[str, float] = {}
    if "feature_mean" in ds:
        means = ds["feature_mean"].transpose("class", "feature").values[present]
        within = ds["feature_within_projected"].values, ds["feature_within_trace"].values
        parts = _collapse(means, *within, ds, present)
        if "classifier_weight" in ds and present.sum() > 1:
            weight = ds["classifier_weight"].transpose("class", "feature").values[present]
            parts["self_duality"] = self_duality(means, weight)
    if "feature_nearest_mean_agrees" in ds:
        agrees = ds["feature_nearest_mean_agrees"].values
        parts["nearest_mean_disagreement"] = float(nearest_mean_disagreement(agrees))
    return parts


def _collapse(
    means: NDArray[Any], projected: NDArray[Any], trace: NDArray[Any], ds: xr.Dataset, present: NDArray[Any]
) -> dict[str, float]:
    names = (
        "within_class_variability",
        "within_between_ratio",
        "equinorm",
        "equiangularity",
        "maximal_angle",
    )
    if present.sum() < 2 or not np.isfinite(means).all():
        return dict.fromkeys(names, float("nan"))
    values = (
        within_class_variability(means, projected[np.ix_(present, present)]),
        within_between_ratio(means, trace[present], ds["class_count"].values[present]),
        equinorm(means),
        equiangularity(means),
        maximal_angle(means),
    )
    return dict(zip(names, values))


def _contrasts(num_classes: int) -> FloatArray:
    """Helmert contrasts: C - 1 orthonormal rows orthogonal to the vector of ones."""
    index = np.arange(1, num_classes)
    rows = np.tril(np.ones((num_classes - 1, num_classes)))
    rows[index - 1, index] = -index
    contrasts: FloatArray = rows / np.sqrt(index * (index + 1))[:, None]
    return contrasts


def _norms(means: ArrayLike) -> FloatArray:
    """Norms of the centred means, those within rounding of zero set to zero."""
    norms = np.linalg.norm(centred_means(means), axis=1)
    return np.where(norms > _rounding(means), norms, 0.0)


def _pair_cosines(means: ArrayLike) -> FloatArray:
    """Cosines between the centred means over pairs c < c', without those of length zero."""
    norms = _norms(means)
    units = centred_means(means)[norms > 0] / norms[norms > 0, None]
    upper = np.triu_indices(len(units), 1)
    return np.clip((units @ units.T)[upper], -1.0, 1.0)


def _rounding(means: ArrayLike) -> float:
    """Rounding to expect in stored means, as a Frobenius norm: eps of their dtype times their norm."""
    means = np.asarray(means)
    eps = np.finfo(means.dtype if means.dtype.kind == "f" else np.float64).eps
    return float(eps * np.linalg.norm(means.astype(np.float64)))


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")
