"""A dataset in the store's schema whose metrics are known by construction.

The network it pretends to come from has two stages of different size; the first block of the second
stage changes the shape. Indices are 0-based unless said otherwise.

- trajectory: inside a stage the states of a sample are equispaced on a line, `speed` apart.
- singular: 1/s_1 of the 1-based block i is `i (1 + spread z)`, with z in [-1, 1] symmetric over the
  samples, from block `early_blocks + 1` on; in the blocks before it is 4 and 0.5 by turns. The values
  2..C fall linearly to s_1/2, those after the C-th are `gap` times smaller.
- coupling: inside a stage block i has V_i = Q cos(i angle) + Q' sin(i angle) and U_i = V_i D_i with
  signs D_i, so that U_j^T J_i V_j = cos((i-j) angle)^2 D_j D_i S_i is diagonal for every pair.
- spectrum: the eigenvalues of block b are -1/(b + 1), 0 and 2, simple and exact, those of its slices -1, 1 and six 0.
- robustness: noise of size 2 flips every answer, along gradients of size 1/2.
- cushion: layer cushions 1/(block + 2), interlayer cushions 1 + span, to the output 2, exactly.
- features: the class means form a simplex equiangular tight frame of radius i + 1 at depth i, the
  scatter within each class is isotropic with standard deviation 1/(i + 1); the classifier is a
  multiple of the transposed means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

PROBES = ("trajectory", "singular", "coupling", "spectrum", "robustness", "cushion", "features")
_AMPLITUDES = {"noise_amplitude": 2.0, "gradient_amplitude": 0.5}


def synthetic_dataset(
    *,
    n_samples: int = 6,
    n_blocks: int = 8,
    num_classes: int = 4,
    class_names: Sequence[str] | None = None,
    probes: Sequence[str] = PROBES,
    rank: int | None = None,
    stage_sizes: tuple[int, int] | None = None,
    early_blocks: int = 2,
    spread: float = 0.02,
    gap: float = 10.0,
    angle: float = 0.0,
    speed: float = 0.5,
    vectors: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    """Build the dataset; `probes` names the parts that are present."""
    rank = num_classes + 2 if rank is None else rank
    sizes = (3 * rank, 2 * rank) if stage_sizes is None else stage_sizes
    if min(sizes) < max(2 * rank, num_classes):
        raise ValueError(f"stage sizes {sizes} are too small for rank {rank} and {num_classes} classes")
    names = [f"class {c}" for c in range(num_classes)] if class_names is None else list(class_names)
    if len(names) != num_classes:
        raise ValueError(f"got {len(names)} class names for {num_classes} classes")
    rng = np.random.default_rng(seed)
    stage_of_depth = (np.arange(n_blocks + 1) > n_blocks // 2).astype(np.int64)
    frame = _Frame(n_samples, n_blocks, num_classes, rank, sizes, stage_of_depth)
    ds = frame.coordinates().assign_attrs(_attributes(frame, names, probes, seed))
    if "trajectory" in probes:
        ds = ds.assign(frame.trajectory(rng, speed))
    if "singular" in probes or "coupling" in probes:
        values = frame.singular_values(early_blocks, spread, gap)
        right, left = frame.singular_vectors(rng, angle)
        if "singular" in probes:
            ds = ds.assign(frame.singular(values, right, left, vectors))
        if "coupling" in probes:
            ds = ds.assign(frame.coupling(values, right, left))
    if "spectrum" in probes:
        ds = ds.assign(frame.spectrum())
    if "robustness" in probes:
        noise = {name: ("sample", np.full(n_samples, size)) for name, size in _AMPLITUDES.items()}
        ds = ds.assign(noise)
    if "cushion" in probes:
        ds = ds.assign(frame.cushion())
    if "features" in probes:
        ds = ds.assign(frame.features(rng))
    return ds


def simplex_frame(num_classes: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`num_classes` unit vectors with pairwise cosine -1/(C-1), as rows, in a random orientation."""
    centred = np.eye(num_classes) - 1 / num_classes
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    return centred @ random_orthonormal(dimension, num_classes, rng).T


def random_orthonormal(n: int, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`k` random orthonormal columns of length `n`."""
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


class _Frame:
    """The sizes of a synthetic dataset, and the parts built from them."""

    def __init__(self, n_samples, n_blocks, num_classes, rank, sizes, stage_of_depth) -> None:
        self.n_samples, self.n_blocks, self.num_classes, self.rank = n_samples, n_blocks, num_classes, rank
        self.stage_of_depth = stage_of_depth
        self.state_size = np.asarray(sizes)[stage_of_depth]
        self.label = np.arange(n_samples) % num_classes

    def coordinates(self) -> xr.Dataset:
        blocks, ranks, classes = np.arange(self.n_blocks), np.arange(self.rank), np.arange(self.num_classes)
        return xr.Dataset(
            coords={
                "sample": np.arange(self.n_samples) * 3 + 1,
                "label": ("sample", self.label),
                "depth": np.arange(self.n_blocks + 1),
                "state_size": ("depth", self.state_size),
                "stage_of_depth": ("depth", self.stage_of_depth),
                "block": blocks,
                "block_j": blocks,
                "stage": ("block", self.stage_of_depth[1:]),
                "rank": ranks,
                "rank_j": ranks,
                "class": classes,
                "class_j": classes,
            }
        )

    def trajectory(self, rng: np.random.Generator, speed: float) -> dict[str, tuple]:
        states = self._padded(self.n_samples, self.n_blocks + 1)
        for stage in np.unique(self.stage_of_depth):
            depths = np.flatnonzero(self.stage_of_depth == stage)
            size = self.state_size[depths[0]]
            directions = simplex_frame(self.num_classes, size, rng)
            start = rng.standard_normal((self.n_samples, size))
            for step, depth in enumerate(depths):
                states[:, depth, :size] = start + step * speed * directions[self.label]
        return {
            "states": (("sample", "depth", "coord"), states),
            "prediction": ("sample", self.label.copy()),
            "loss": ("sample", 0.1 / (1 + np.arange(self.n_samples))),
        }

    def singular_values(self, early_blocks: int, spread: float, gap: float) -> NDArray[np.float64]:
        number = np.arange(1, self.n_blocks + 1)
        early = np.where(number % 2 == 1, 4.0, 0.5)
        inverse = np.where(number <= early_blocks, early, number)
        factor = 1 + spread * np.linspace(-1, 1, self.n_samples) if self.n_samples > 1 else np.ones(1)
        profile = 1 - 0.5 * np.arange(self.rank) / max(self.num_classes - 1, 1)
        tail = self.rank - self.num_classes
        profile[self.num_classes :] = (0.5 - 0.01 * np.arange(tail)) / gap
        return profile / (factor[:, None] * inverse)[..., None]

    def singular_vectors(self, rng: np.random.Generator, angle: float) -> tuple[list, list]:
        """Right and left vectors of each block, (size, rank), the same for all samples."""
        bases = {int(n): random_orthonormal(int(n), 2 * self.rank, rng) for n in np.unique(self.state_size)}
        right, left = [], []
        for i in range(self.n_blocks):
            turned = [
                basis[:, : self.rank] * np.cos(i * angle) + basis[:, self.rank :] * np.sin(i * angle)
                for basis in (bases[int(self.state_size[i])], bases[int(self.state_size[i + 1])])
            ]
            right.append(turned[0])
            left.append(turned[1] * rng.choice([-1.0, 1.0], self.rank))
        return right, left

    def singular(self, values, right, left, vectors: bool) -> dict[str, tuple]:
        dims = ("sample", "block", "rank")
        parts = {
            "singular_values": (dims, values),
            "singular_residuals": (dims, np.full(values.shape, 1e-9)),
            "singular_converged": (dims, np.ones(values.shape, dtype=bool)),
            "singular_matvecs": (dims[:2], np.full(values.shape[:2], 64)),
        }
        if vectors:
            for name, bases in (("left_vectors", left), ("right_vectors", right)):
                padded = self._padded(self.n_samples, self.n_blocks, self.rank)
                for i, basis in enumerate(bases):
                    padded[:, i, :, : len(basis)] = basis.T
                parts[name] = ((*dims, "coord"), padded)
        return parts

    def coupling(self, values, right, left) -> dict[str, tuple]:
        shape = (self.n_samples, self.n_blocks, self.n_blocks, self.rank, self.rank)
        names = ("coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv")
        arrays = {name: np.full(shape, np.nan) for name in names}
        for i in range(self.n_blocks):
            for j in range(self.n_blocks):
                if len(right[i]) != len(right[j]) or len(left[i]) != len(left[j]):
                    continue
                scaled = values[:, i, None, :]
                arrays["coupling_uv"][:, i, j] = (left[j].T @ left[i] * scaled) @ (right[i].T @ right[j])
                arrays["overlap_uu"][:, i, j] = left[i].T @ left[j]
                arrays["overlap_vv"][:, i, j] = right[i].T @ right[j]
                if len(right[i]) == len(left[i]):
                    arrays["coupling_vu"][:, i, j] = (right[j].T @ left[i] * scaled) @ (right[i].T @ left[j])
                    arrays["overlap_uv"][:, i, j] = left[i].T @ right[j]
        return {n: (("sample", "block", "block_j", "rank", "rank_j"), a) for n, a in arrays.items()}

    def spectrum(self) -> dict[str, tuple]:
        dims, ones = ("sample", "block"), np.ones((self.n_samples, self.n_blocks))
        smallest = -1 / (np.arange(self.n_blocks) + 1.0) * ones
        known = {
            "largest_real": 2,
            "smallest_real": smallest,
            "spectral_radius": 2,
            "jacobian_norm": 3,
            "num_live": 2,
            "numerical_abscissa": 2.5,
            "numerical_minimum": -1,
            "departure_from_normality": 0.5,
            "num_negative": 1,
            "num_negative_error": 0,
            "num_undecided": 0,
            "num_eigenvalues": 3,
            "eigen_residual": 1e-7,
            "condition_largest": 2,
            "condition_smallest": 2,
            "largest_real_slices": 1,
            "smallest_real_slices": -1,
            "num_eigenvalues_slices": 8,
            "num_negative_slices": 1,
            "num_undecided_slices": 0,
        }
        values = np.stack([2 * ones, 0 * ones, smallest], axis=-1)
        return {
            **{name: (dims, value * ones) for name, value in known.items()},
            "eigen_converged": (dims, ones.astype(bool)),
            "eigenvalues_real": ((*dims, "eigenvalue"), values),
            "eigenvalues_imag": ((*dims, "eigenvalue"), 0 * values),
        }

    def cushion(self) -> dict[str, tuple]:
        block = np.arange(self.n_blocks)
        ones = np.ones((self.n_samples, self.n_blocks))
        size = np.sqrt(self.state_size[:-1])[:, None]
        span = np.where(block[None] >= block[:, None], 1.0 + block[None] - block[:, None], np.nan)
        pairs = np.broadcast_to(span / size, (self.n_samples, *span.shape))
        layer, pair = ("sample", "block", "part"), ("sample", "block", "block_j")
        return {
            "layer_input_norm": (layer, 2 * ones[..., None]),
            "layer_output_norm": (layer, (3 * ones / (block + 2))[..., None]),
            "layer_weight_norm": (layer, 1.5 * ones[..., None]),
            "skip_output_norm": (layer[:2], ones),
            "skip_weight_norm": (layer[:2], ones),
            "state_norm": (layer[:2], ones),
            "output_product_norm": (layer[:2], 2 * ones / size[:, 0]),
            "output_jacobian_norm": (layer[:2], ones),
            "output_jacobian_error": (layer[:2], 0 * ones),
            "span_product_norm": (pair, pairs.copy()),
            "span_jacobian_norm": (pair, np.where(np.isfinite(pairs), 1.0, np.nan)),
            "span_jacobian_error": (pair, np.where(np.isfinite(pairs), 0.01, np.nan)),
        }

    def features(self, rng: np.random.Generator) -> dict[str, tuple]:
        n_depths, num_classes = self.n_blocks + 1, self.num_classes
        mean = self._padded(n_depths, num_classes)
        projected = np.empty((n_depths, num_classes, num_classes))
        trace = np.empty((n_depths, num_classes))
        for depth, size in enumerate(self.state_size):
            centred = (depth + 1) * simplex_frame(num_classes, size, rng)
            mean[depth, :, :size] = centred + rng.standard_normal(size)
            projected[depth] = centred @ centred.T / (depth + 1) ** 2
            trace[depth] = size / (depth + 1) ** 2
        last = mean[-1, :, : self.state_size[-1]]
        centred = last - last.mean(0)
        agrees = np.linspace(1 / num_classes, 1.0, n_depths)
        return {
            "class_mean": (("depth", "class", "coord"), mean),
            "class_count": ("class", np.full(num_classes, 10)),
            "within_trace": (("depth", "class"), trace),
            "within_projected": (("depth", "class", "class_j"), projected),
            "nearest_mean_agrees": ("depth", agrees),
            "nearest_mean_accuracy": ("depth", 0.9 * agrees),
            "feature_mean": (("class", "feature"), last.copy()),
            "feature_within_trace": ("class", trace[-1].copy()),
            "feature_within_projected": (("class", "class_j"), projected[-1].copy()),
            "feature_nearest_mean_agrees": ((), 1.0),
            "classifier_weight": (("class", "feature"), 0.3 * centred),
            "classifier_bias": ("class", np.zeros(num_classes)),
            "num_images": ((), 10 * num_classes),
        }

    def _padded(self, *shape: int) -> NDArray[np.float64]:
        return np.full((*shape, int(self.state_size.max())), np.nan)


def _attributes(frame: _Frame, names: list[str], probes: Sequence[str], seed: int) -> dict:
    stream = [
        {
            "index": i,
            "path": f"blocks.{i}",
            "shape_in": [int(frame.state_size[i])],
            "shape_out": [int(frame.state_size[i + 1])],
            "skip": "identity" if frame.state_size[i] == frame.state_size[i + 1] else "projection",
            "gate": "relu",
            "square": bool(frame.state_size[i] == frame.state_size[i + 1]),
            "stage": int(frame.stage_of_depth[i + 1]),
            "parameters": 100 + i,
        }
        for i in range(frame.n_blocks)
    ]
    return {
        "model": "synthetic",
        "weights_hash": "0" * 64,
        "data": "synthetic",
        "split": "test",
        "kind": "gated",
        "dtype": "float64",
        "seed": seed,
        "batch_norm": "eval",
        "nonsquare": "coupled only with blocks of equal shape",
        "versions": {"resdyn": "0", "python": "3"},
        "class_names": names,
        "stream": stream,
        "probes": {name: {} for name in probes},
        "machine": "none",
        "command": "synthetic_dataset()",
        "complete": True,
    }
