"""A network of `resdyn.nets`, trained by a recipe on a dataset or with weights from elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdyn.data import ImageData, Preprocessing, load_data
from resdyn.errors import InputError
from resdyn.models import load_weights
from resdyn.nets import NETS
from resdyn.training import Recipe

FULLY_CONNECTED = ("mlp", "ra_type1", "ra_type4a", "ra_type4b", "td_shared", "td_free", "td_mlp")
SUBSET_SEED = 0  # of the choice of images, the same for every seed of the training


@dataclass(frozen=True)
class Case:
    """`network` of `NETS` with `options`, on `images` images (None: all) of the first `classes` classes (None: all).

    Weights are drawn with `recipe.seed` in float32 and brought to `precision`. Fully connected networks take images at
    their own size, unless `options` say `in_features`.
    """

    network: str
    data: str
    recipe: Recipe
    images: int | None = None
    classes: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    precision: str = "float32"

    @property
    def name(self) -> str:
        """A file name that differs whenever anything about the case does."""
        content = dataclasses.asdict(self) | {"recipe": self.recipe.settings()}
        if self.precision == "float32":
            del content["precision"]  # networks of before there was a choice keep their names
        text = json.dumps(content, sort_keys=True, default=str)
        return f"{self.network}.{self.data}.s{self.recipe.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def images_of(self, split: str, root: str | None = None) -> ImageData:
        """The images of a split; of `train` the chosen ones."""
        data = load_data(self.data, split, root)
        if self.classes is not None:
            data = data.of_classes(data.class_names[: self.classes])
        if split == "train" and self.images is not None and self.images < len(data):
            generator = torch.Generator().manual_seed(SUBSET_SEED)
            data = data.subset(torch.randperm(len(data), generator=generator)[: self.images])
        return data

    def build(self, data: ImageData) -> tuple[nn.Module, Preprocessing]:
        """The untrained network for these images, in eval mode, and what makes its inputs of images."""
        options = self._inputs(tuple(data.image(0).shape)) | {"classes": len(data.class_names)} | dict(self.options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            model = NETS[self.network](**options).to(getattr(torch, self.precision))
        return model.eval(), Preprocessing(tuple(model.input_size))  # type: ignore[arg-type]

    def _inputs(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """What a network must know of images of a shape (channels, height, width)."""
        if self.network in FULLY_CONNECTED:
            return {"in_features": shape}
        return {} if self.network.startswith("cifar") else {"in_channels": shape[0]}


@dataclass(frozen=True)
class Pretrained:
    """`network` of `NETS` with the weights in the file `weights` of the folder that RESDYN_MODELS names."""

    network: str
    data: str
    weights: str

    @property
    def name(self) -> str:
        return f"{self.network}.{self.data}.{Path(self.weights).stem}"

    def images_of(self, split: str, root: str | None = None) -> ImageData:
        """The images of a split."""
        return load_data(self.data, split, root)

    def build(self, data: ImageData, untrained: bool = False) -> tuple[nn.Module, Preprocessing]:
        """The network in eval mode, with the weights or as it was drawn, and what makes its inputs of images."""
        if untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = NETS[self.network](classes=len(data.class_names))
            return model.eval(), Preprocessing(tuple(model.input_size), model.mean, model.std)  # type: ignore[arg-type]
        folder = os.environ.get("RESDYN_MODELS")
        if not folder:
            raise InputError(f"RESDYN_MODELS is not set, expected the folder that holds {self.weights}")
        model = NETS[self.network](classes=len(data.class_names))
        load_weights(model, Path(folder) / self.weights)
        return model.eval(), Preprocessing(tuple(model.input_size), model.mean, model.std)  # type: ignore[arg-type]
