"""Where an experiment works: networks trained and measured once, numbers and pictures written down as they come."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import xarray as xr
from numpy.typing import ArrayLike
from torch import nn

import resdyn
from resdyn.data import ImageData
from resdyn.errors import InputError, did_you_mean
from resdyn.models import weights_hash
from resdyn.monitor import Monitor
from resdyn.papers.case import Case, Pretrained
from resdyn.papers.results import Number, Result, save_result, write_whole
from resdyn.papers.trained import Trained, device
from resdyn.stream import Kind
from resdyn.training import Callback, History, Penalty, accuracy, train, watch_untrained

Scale = Literal["tiny", "small", "paper"]
SCALES: tuple[Scale, ...] = ("tiny", "small", "paper")
CHECKPOINT_EVERY = 1
Entry = TypeVar("Entry")


@dataclass
class Lab:
    """Where an experiment works, at one scale: it trains, measures, and writes down what it finds.

    Attributes:
        result: What numbers and pictures are written into, saved with each of them.
        folder: Keeps checkpoints and stores, so that a killed run resumes.
        root: Folder of the datasets. None: that which the environment variable RESDYN_DATA names.
        quiet: Show no progress of captures.
        null: Leave every network untrained, those with weights from elsewhere too.
        earlier_training: Seconds that the networks' training took before this run of the experiment.
    """

    result: Result
    folder: Path
    root: str | None = None
    quiet: bool = False
    null: bool = False
    earlier_training: float = 0.0
    _selected: bool = False
    _known: dict[str, Trained] = field(default_factory=dict)
    _read: dict[Any, ImageData] = field(default_factory=dict)

    @property
    def scale(self) -> Scale:
        """That of the result, "tiny", "small" or "paper"."""
        return self.result.scale

    def selected(self, networks: Iterable[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        """Of an experiment's networks those that it is run for (`Result.part`), or all.

        Args:
            networks: Label of each and whatever else; the experiment looks at one after the other.

        Raises:
            InputError: Where it is to be run for others.
        """
        known, part = dict(networks), self.result.part
        if unknown := [label for label in part if label not in known]:
            hint = did_you_mean(unknown[0], list(known))
            raise InputError(f"got the network '{unknown[0]}', expected one of {', '.join(known)}.{hint}")
        self._selected = True
        return [(label, entry) for label, entry in known.items() if label in part or not part]

    def _check_selection(self) -> None:
        """That a run for some networks is not one of all, before anything is trained or written."""
        if self.result.part and not self._selected:
            raise InputError(
                f"got networks {', '.join(self.result.part)} for the experiment '{self.result.experiment}', "
                "which needs all of its own: run it whole"
            )

    def untrained(self, case: Case) -> Trained:
        """The network of a case at initialisation.

        Args:
            case: Network, data and recipe; the recipe's seed draws the weights.

        Returns:
            The network in eval mode, on the GPU where there is one, and its training images.
        """
        self._check_selection()
        data = case.images_of("train", self.root)
        model, preprocessing = case.build(data)
        model = model.to(device())
        return Trained(case, model, self.inputs(case, "train", data.prepared(preprocessing)), [])

    def inputs(self, case: Case, split: str, data: ImageData) -> ImageData:
        """The prepared images of a split of a case, read once: the next network often has the same.

        Args:
            case: The case.
            split: "train" or "test".
            data: Its images, prepared; read into memory where they are not known yet.
        """
        key = (case.data, case.images if split == "train" else None, case.classes, split, data.preprocessing)
        if key not in self._read:
            self._read = {known: images for known, images in self._read.items() if known[3] != split}
            self._read[key] = data.in_memory()
        return self._read[key]

    def trained(
        self,
        case: Case,
        callbacks: Sequence[Callback | Monitor] = (),
        prepare: Callable[[nn.Module], None] | None = None,
        penalty: Penalty | None = None,
    ) -> Trained:
        """The network of a case after training, which is done once; its numbers go into the result.

        Args:
            case: Network, data and recipe.
            callbacks: As for `resdyn.training.train`.
            prepare: May add to the untrained network what training is to do (hooks); a case has one such or none.
            penalty: Added to the loss, as for `resdyn.training.train`.

        Returns:
            The network in eval mode, its training images, and what its callbacks found.
        """
        plain = not callbacks and penalty is None
        if case.name in self._known and plain:
            return self._known[case.name]
        new = self.untrained(case)
        if prepare is not None:
            prepare(new.model)
        marks = [type(c).__name__ for c in callbacks]
        marks += [] if penalty is None else [hashlib.sha256(repr(penalty).encode()).hexdigest()[:8]]
        path = self.checkpoint(case, marks)
        history = self._history(new, callbacks, path, penalty)
        test = case.images_of("test", self.root).prepared(case.build(new.data)[1])
        test = self.inputs(case, "test", test)
        found = dataclasses.replace(new, found=history.results, run=path.stem)
        self._known = {case.name: found} if plain else {}  # one at a time: the next case is another network
        self._describe(found, test, history.records[-1] | {"seconds": round(history.seconds, 1)})
        return found

    def _history(
        self, new: Trained, callbacks: Sequence[Callback | Monitor], path: Path, penalty: Penalty | None
    ) -> History:
        """Of the training, or of a look at the untrained network."""
        assert isinstance(new.case, Case)
        if self.null:
            return watch_untrained(new.model, new.data, new.case.recipe, callbacks)
        start = time.monotonic()
        history = train(new.model, new.data, new.case.recipe, callbacks, path, CHECKPOINT_EVERY, penalty)
        self.earlier_training += max(0.0, history.seconds - (time.monotonic() - start))
        return history

    def pretrained(self, entry: Pretrained) -> Trained:
        """A network with weights from elsewhere, and the test images.

        Args:
            entry: Network, data and file of weights.

        Raises:
            InputError: Where the environment variable RESDYN_MODELS does not name the folder of the weights.
        """
        self._check_selection()
        test = entry.images_of("test", self.root)
        model, preprocessing = entry.build(test, untrained=self.null)
        found = Trained(entry, model.to(device()), test.prepared(preprocessing).in_memory(), [])
        self._describe(found, found.data, {"accuracy": None, "loss": None})
        return found

    def test_images(self, network: Trained) -> ImageData:
        """The test images as the network is fed.

        Args:
            network: What `trained`, `untrained` or `pretrained` returned.
        """
        if isinstance(network.case, Pretrained):
            return network.data
        preprocessing = network.case.build(network.data)[1]
        return network.case.images_of("test", self.root).prepared(preprocessing).in_memory()

    def checkpoint(self, case: Case, marks: Sequence[str] = ()) -> Path:
        """Where a run of a case is kept.

        Args:
            case: The case.
            marks: Tell runs of it apart (classes of callbacks, a hash of a penalty).
        """
        return self.folder / "networks" / f"{'+'.join([case.name, *marks])}.safetensors"

    def measured(
        self,
        network: Trained,
        probes: str,
        samples: int | Sequence[int],
        state: str = "trained",
        *,
        data: ImageData | None = None,
        kind: Kind = "gated",
    ) -> xr.Dataset:
        """Probes of a network, measured once.

        Args:
            network: What `trained`, `untrained` or `pretrained` returned.
            probes: As text, as for `resdyn.capture`.
            samples: How many, or their indices, as for `resdyn.capture`.
            state: Names the weights, such as "trained"; a store of other weights is not used.
            data: Where to measure. None: at the network's own images.
            kind: The reading of the Jacobian, as for `resdyn.capture`.

        Returns:
            The store, opened.
        """
        data = network.data if data is None else data
        settings = "" if (kind, data.split) == ("gated", network.data.split) else f"{kind}{data.split}"
        wanted = hashlib.sha256(f"{probes}{samples}{settings}".encode()).hexdigest()[:8]
        store = self.folder / "stores" / f"{network.case.name}.{state}-{wanted}.zarr"
        if store.exists():
            ds = resdyn.open_store(store)
            if ds.attrs["complete"] and ds.attrs["weights_hash"] == weights_hash(network.model):
                return ds
            ds.close()
        return resdyn.capture(
            network.model,
            data,
            probes,
            store,
            samples=samples,
            stream=network.stream,
            kind=kind,
            show_progress=not self.quiet,
        )

    def record(self, key: str, values: ArrayLike, over: str = "", note: str = "") -> Number:
        """Write down a number, or the mean of several with its standard error.

        Args:
            key: What a claim calls it.
            values: One number or many, of any shape; those that are not finite are left out.
            over: What they range over, such as "samples".
            note: What else a reader must know of it.

        Returns:
            The number as it was written.
        """
        return self.write(key, Number.of(values, over, note))

    def write(self, key: str, number: Number) -> Number:
        """Write down a number.

        Args:
            key: What a claim calls it.
            number: With its error.
        """
        self._check_selection()
        self.result.numbers[key] = number
        save_result(self.result)
        return number

    def picture(self, key: str, picture: dict[str, Any]) -> None:
        """Write down what a picture is drawn from.

        Args:
            key: Its name in the result.
            picture: See `resdyn.papers.pictures`.
        """
        self.result.pictures[key] = picture
        save_result(self.result)

    def _describe(self, network: Trained, test: ImageData, last: dict[str, Any]) -> None:
        """What was trained or loaded, and how good it is, in the result."""
        case = network.case
        if isinstance(case, Case):
            origin = {"recipe": case.recipe.settings(), "options": dict(case.options), "images": len(network.data)}
        else:
            origin = {}
        row = (
            dataclasses.asdict(case)
            | origin
            | {
                "weights_hash": weights_hash(network.model),
                "data_notes": list(network.data.notes),
                "train_accuracy": last["accuracy"],
                "train_loss": last["loss"],
                "test_accuracy": self._test_accuracy(network, test),
                "test_images": len(test),
            }
            | ({"seconds": last["seconds"]} if "seconds" in last else {})
        )
        self.result.networks[network.name] = row
        save_result(self.result)

    def _test_accuracy(self, network: Trained, test: ImageData) -> float:
        """Found once for the network's weights, in a file beside them."""
        path = self.folder / "networks" / f"{network.name}.test.json"
        weights = weights_hash(network.model)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known.get("weights_hash") != weights:
            known = {"weights_hash": weights, "test_accuracy": accuracy(network.model, test)}
            write_whole(path, json.dumps(known))
        found: float = known["test_accuracy"]
        return found
