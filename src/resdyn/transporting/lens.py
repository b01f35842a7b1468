"""A fitted transport: its matrices, their errors, and what to do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from resdyn import store as stores
from resdyn.errors import InputError
from resdyn.metrics import TransportStructure, transport_structure
from resdyn.transporting.fit import is_result


class Transport:
    """The mean transports ``J_l = E[d h_target / d h_l]`` of a model, one matrix per depth; made by `transport`.

    `lens[l]` is J_l, `l in lens` whether there is one, `list(lens)` the depths.

    Attributes:
        dataset: The arrays `transport`, `transport_standard_error` and `transport_noise` (depth, row, column), narrower
            matrices filled up with NaN; settings and provenance in `attrs`. Without errors where a file of somebody
            else has none.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> lens = resdyn.transport(model, torch.randn(5, 3), to="logits", show_progress=False)
        >>> list(lens), tuple(lens[2].shape)
        ([0, 1, 2], (2, 4))
        >>> torch.allclose(lens[2], model.classifier.weight)
        True
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        """Internal: made by `transport` and `load_transport`.

        Args:
            dataset: What a finished store holds.
        """
        self.dataset = dataset

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths l, ascending."""
        return tuple(self.dataset["depth"].values.tolist())

    @property
    def num_samples(self) -> int:
        """Samples behind the mean."""
        return int(self.dataset.attrs["num_samples"])

    @property
    def target(self) -> int | Literal["logits"]:
        """Depth of the target, or "logits"."""
        to: int | Literal["logits"] = self.dataset.attrs["to"]
        return to

    @property
    def relative_error(self) -> dict[int, float]:
        """By depth, the Frobenius norm of the standard errors over that of the mean; NaN where they are not known."""
        return {depth: _ratio(self.standard_error(depth), self[depth]) for depth in self.depths}

    def __len__(self) -> int:
        return len(self.depths)

    def __iter__(self) -> Iterator[int]:
        return iter(self.depths)

    def __contains__(self, depth: object) -> bool:
        return depth in self.depths

    def __getitem__(self, depth: int) -> Tensor:
        """J_l as a tensor (rows, columns)."""
        return self._matrix("transport", depth)

    def __repr__(self) -> str:
        target = self.target if isinstance(self.target, str) else f"h_{self.target}"
        s, n = "s" if len(self) != 1 else "", self.num_samples
        samples = f"{n} sample{'s' if n != 1 else ''}"
        return f"Transport({len(self)} depth{s} to {target}, {self.dataset.attrs['reduction']}, {samples})"

    def standard_error(self, depth: int) -> Tensor:
        """The standard error of each entry of J_l over the samples.

        Args:
            depth: l.

        Returns:
            (rows, columns); NaN for one sample, and for a file that has no errors.

        Raises:
            InputError: For a depth without a matrix.
        """
        return self._matrix("transport_standard_error", depth)

    def noise(self, depth: int) -> Tensor:
        """One draw of what the error of J_l may be: random signs over the samples.

        Args:
            depth: l.

        Returns:
            (rows, columns), as `standard_error`.

        Raises:
            InputError: For a depth without a matrix.
        """
        return self._matrix("transport_noise", depth)

    def structure(self, depth: int) -> TransportStructure:
        """What J_l is made of: identity, spectrum of the rest, noise (see `resdyn.metrics.transport_structure`).

        Args:
            depth: l.

        Returns:
            Norm, singular values, identity share, ranks, log-determinant and share of noise.

        Raises:
            InputError: For a depth without a matrix.
        """
        return transport_structure(self[depth].numpy(), self.standard_error(depth).numpy(), self.noise(depth).numpy())

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> Path:
        """Write the matrices in the common lens file format (.pt), or as safetensors.

        A torch file of plain tensors, {"J": {layer: (d, d)}, "n_prompts", "source_layers", "d_model", "metadata"}, read
        by other programs; layer l is the output of transformer block l, depth l + 1, so depth 0 and the target itself
        are left out. Errors are not part of that format; a store keeps them.

        Args:
            path: NAME.pt or NAME.safetensors, written as a whole or not at all.
            dtype: Of the matrices (default: float16, as most published files).

        Returns:
            The path.

        Raises:
            InputError: For a transport of which the depths are not layers, or that is not square, for another
                ending, and for values that overflow in `dtype`.
        """
        from resdyn.transporting.files import save

        return save(self, path, dtype)

    def readout(self, model: Any, inputs: Any, *, top_k: int = 10, stream: Any = None) -> xr.Dataset:
        """What the lens, the logit lens and the model itself predict: ``unembed(norm(J_l h_l))`` and J = I beside it.

        The head is the network's own, everything after the target, whatever it is.

        Args:
            model: The module, in eval mode.
            inputs: One batch of inputs, as `find_stream` takes them: a tensor, or a mapping by names.
            top_k: How many of the classes or tokens to keep.
            stream: The model's stream, where it is at hand.

        Returns:
            lens_top, lens_score, logit_lens_top, logit_lens_score (sample, depth, [position,] rank) and model_top,
            model_score (sample, [position,] rank). The logit lens is NaN, and its tops -1, where a state is not shaped
            like the target. `attrs` say whether the lens was fitted on these weights.

        Raises:
            InputError: For a model of another width or number of layers, and for a lens that cannot be read.
        """
        from resdyn.transporting.reading import readout

        return readout(self, model, inputs, top_k=top_k, stream=stream)

    def evaluate(self, model: Any, data: Any, *, samples: Any = None, seed: int = 0, stream: Any = None) -> xr.Dataset:
        """How well the lens and the logit lens predict the model's output, by depth, with errors over samples.

        Args:
            model: The module, in eval mode.
            data: As for `transport`, of samples that the lens was not fitted on.
            samples: How many to draw with `seed`, or their indices (default: all).
            seed: Of the draw.
            stream: The model's stream, where it is at hand.

        Returns:
            agreement (share of the model's first predictions that are the lens's first), divergence (KL of the
            lens's distribution from the model's, nats), rank (of the model's first prediction, from 0) and entropy
            (nats), each (lens, depth) with `_standard_error`, lens being "lens" or "logit lens".

        Raises:
            InputError: For samples that the lens was fitted on, and as for `readout`.
        """
        from resdyn.transporting.reading import evaluate

        return evaluate(self, model, data, samples=samples, seed=seed, stream=stream)

    def check(
        self,
        model: Any,
        data: Any,
        *,
        sizes: Sequence[float] = (0.01, 0.1, 1.0),
        samples: Any = None,
        seed: int = 0,
        stream: Any = None,
    ) -> xr.Dataset:
        """How well J_l predicts real interventions: adding a vector to h_l, measured on held-out samples.

        A random direction v times a size is added to the state (to every valid position of a sequence), and what the
        target becomes is compared with J_l v and, beside it, with the sample's own derivative times v, which is what a
        first-order prediction could do at best.

        Args:
            model: The module, in eval mode.
            data: As for `transport`, of samples that the lens was not fitted on.
            sizes: Of the vector, relative to the mean norm of the state.
            samples: How many to draw with `seed`, or their indices (default: all).
            seed: Of the draw and of the directions.
            stream: The model's stream, where it is at hand.

        Returns:
            The variable error (prediction, depth, size), relative to the effect of the intervention, of which 0 is
            perfect and 1 no better than predicting nothing, and error_standard_error over the samples.

        Raises:
            InputError: For a lens that is not of "sum" or "flat" to a state, and as for `evaluate`.

        Cost: 3 + len(sizes) passes through the rest of the network per sample and depth.
        """
        from resdyn.transporting.steering import check

        return check(self, model, data, sizes=sizes, samples=samples, seed=seed, stream=stream)

    def _matrix(self, name: str, depth: int) -> Tensor:
        if depth not in self.depths:
            raise InputError(f"got depth {depth!r}, expected one of {list(self.depths)}")
        of_depth = self.dataset.isel(depth=self.depths.index(depth))
        columns = int(of_depth["columns"])
        if name not in self.dataset:
            return torch.full((self.dataset.sizes["row"], columns), torch.nan)
        return torch.from_numpy(np.array(of_depth[name].values[:, :columns]))


def load_transport(path: str | Path, *, divide: bool = False) -> Transport:
    """Open a transport: a store of `transport`, a common lens file (.pt) or safetensors.

    Nothing is unpickled but tensors and plain numbers (``weights_only=True``), and matrices are mapped from the file.

    Args:
        path: What `transport`, `Transport.save` or another program wrote.
        divide: Read a fitting checkpoint, which holds sums, and divide by its number of prompts.

    Returns:
        The lens; without errors where the file has none.

    Raises:
        InputError: For a file of another format, a damaged one, and a fitting checkpoint unless `divide`.
        StoreError: For a store that is not finished, damaged or of another measurement.
    """
    from resdyn import _checks as checks
    from resdyn.transporting.files import load

    place = checks.path("path", path)
    if place.is_file():
        return load(place, checks.flag("divide", divide))
    dataset = stores.open_store(place)
    if dataset.attrs.get("measurement") != "transport":
        raise InputError(f"'{place}' is a store of another measurement; expected one that resdyn.transport wrote")
    if not is_result(dataset):
        raise InputError(
            f"'{place}' is not finished: {dataset.attrs['tasks_remaining']} tasks remain; the same call of transport "
            "resumes it"
        )
    return Transport(dataset)


def _ratio(error: Tensor, mean: Tensor) -> float:
    return float(error.double().norm() / mean.double().norm())
