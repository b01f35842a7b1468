"""Where an experiment works: networks trained and measured once, numbers and pictures written down as they come."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import nn

import resdyn
from resdyn.capture import capture
from resdyn.data import ImageData
from resdyn.models import weights_hash
from resdyn.papers.case import Case
from resdyn.papers.results import Number, Result, save_result
from resdyn.stream import ResidualStream, find_stream, stream_from_blocks
from resdyn.training import Callback, accuracy, train

Scale = Literal["tiny", "small", "paper"]
SCALES: tuple[Scale, ...] = ("tiny", "small", "paper")
CHECKPOINT_EVERY = 5


@dataclass(frozen=True)
class Trained:
    """A network in eval mode, the images it was (or is to be) trained on, and what its callbacks found."""

    case: Case
    model: nn.Module
    data: ImageData
    found: list[Any]

    @cached_property
    def stream(self) -> ResidualStream:
        """The residual stream, found when it is asked for; without skips the blocks are plain layers, named by hand."""
        example = self.data.inputs([0]).to(_device())
        blocks: Any = self.model.blocks
        if all(block.shortcut is None for block in blocks):
            paths = [f"blocks.{i}" for i in range(len(blocks))]
            return stream_from_blocks(self.model, paths, example, skip="none")
        return find_stream(self.model, example)


@dataclass
class Lab:
    """One experiment at one scale: `folder` keeps checkpoints and stores, so that a killed run goes on."""

    result: Result
    folder: Path
    root: str | None = None
    quiet: bool = False
    _known: dict[str, Trained] = field(default_factory=dict)
    _read: dict[Any, ImageData] = field(default_factory=dict)

    @property
    def scale(self) -> Scale:
        return self.result.scale

    def untrained(self, case: Case) -> Trained:
        """The network of a case at initialisation."""
        data = case.images_of("train", self.root)
        model, preprocessing = case.build(data)
        model = model.to(_device())
        return Trained(case, model, self.inputs(case, "train", data.prepared(preprocessing)), [])

    def inputs(self, case: Case, split: str, data: ImageData) -> ImageData:
        """The prepared images of a split of a case, read once: the next network has often the same."""
        key = (case.data, case.images if split == "train" else None, case.classes, split, data.preprocessing)
        if key not in self._read:
            self._read = {known: images for known, images in self._read.items() if known[3] != split}
            self._read[key] = data.in_memory()
        return self._read[key]

    def trained(
        self, case: Case, callbacks: Sequence[Callback] = (), prepare: Callable[[nn.Module], None] | None = None
    ) -> Trained:
        """The network of a case after training, which is done once; its figures go into the result.

        `prepare` may add to the untrained network what training is to do (hooks); a case has one such or none.
        """
        if case.name in self._known and not callbacks:
            return self._known[case.name]
        new = self.untrained(case)
        if prepare is not None:
            prepare(new.model)
        path = self.checkpoint(case, [type(c).__name__ for c in callbacks])
        history = train(new.model, new.data, case.recipe, callbacks, path, checkpoint_every=CHECKPOINT_EVERY)
        test = case.images_of("test", self.root).prepared(case.build(new.data)[1])
        test = self.inputs(case, "test", test)
        found = dataclasses.replace(new, found=history.results)
        self._known = {case.name: found}  # one at a time: the next case is another network
        self._describe(found, test, history.records[-1])
        return found

    def checkpoint(self, case: Case, callbacks: Sequence[str] = ()) -> Path:
        """Where a run of a case with callbacks of these classes is kept."""
        return self.folder / "networks" / f"{'+'.join([case.name, *callbacks])}.safetensors"

    def measured(
        self, network: Trained, probes: str, samples: int | Sequence[int], state: str = "trained"
    ) -> xr.Dataset:
        """Probes of a network at its training images, measured once. `state` names the network's weights."""
        wanted = hashlib.sha256(f"{probes}{samples}".encode()).hexdigest()[:8]
        store = self.folder / "stores" / f"{network.case.name}.{state}-{wanted}.zarr"
        if store.exists():
            ds = resdyn.open(store)
            if ds.attrs["complete"] and ds.attrs["weights_hash"] == weights_hash(network.model):
                return ds
            ds.close()
        return capture(network.model, network.data, probes, store, samples=samples, stream=network.stream,
                       quiet=self.quiet)  # fmt: skip

    def record(self, key: str, values: ArrayLike, over: str = "", note: str = "") -> Number:
        """Write down a number, or the mean of several with its standard error; `over` says what they range over."""
        number = Number.of(values, over, note)
        self.result.numbers[key] = number
        save_result(self.result)
        return number

    def picture(self, key: str, picture: dict[str, Any]) -> None:
        """Write down what a picture is drawn from; see `resdyn.papers.pictures`."""
        self.result.pictures[key] = picture
        save_result(self.result)

    def _describe(self, network: Trained, test: ImageData, last: dict[str, float]) -> None:
        """What was trained, and how well, in the result."""
        case = network.case
        row = dataclasses.asdict(case) | {
            "options": dict(case.options),
            "images": len(network.data),
            "data_notes": list(network.data.notes),
            "train_accuracy": last["accuracy"],
            "train_loss": last["loss"],
            "test_accuracy": accuracy(network.model, test),
            "test_images": len(test),
        }
        self.result.networks[case.name] = row
        save_result(self.result)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
