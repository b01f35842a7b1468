"""The demonstration: train, watch, capture; everything that `resdyn demo` shows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from resdyn._files import whole_file
from resdyn._format import percent
from resdyn.capturing.run import capture
from resdyn.cli.measure import Measured, command_line, null_store
from resdyn.cli.output import say
from resdyn.data import load_data
from resdyn.errors import InputError, StoreError
from resdyn.interventions.pruning.files import check_own_folder
from resdyn.models import untrained_twin
from resdyn.models.placement import resolve_device
from resdyn.models.untrained import NOTE
from resdyn.monitor import Monitor
from resdyn.training import DIGITS_RECIPE, TrainedDigits, train_digits
from resdyn.training.checkpoint import OtherRunError

PROBES = "trajectory,singular(k=20),coupling(k=10),spectrum,cushion,robustness,features"
NULL_SAMPLES = 8


@dataclass(frozen=True)
class Outcome:
    """What the demonstration made, and how long it took (seconds)."""

    measured: Measured
    store: Path
    weights: Path
    test_accuracy: float
    seconds: float


def run_demo(out: Path, *, epochs: int, seed: int, samples: int, device: str = "cpu") -> Outcome:
    """Train on the digits with a monitor, and capture the trained network at training images.

    Args:
        out: Folder for the checkpoint, the weights and the store; made where it is not there.
        epochs: Epochs of training.
        seed: Seed of the weights, the order of the images, and the choice of samples.
        samples: Training images to measure.
        device: Where to train and measure, as `resdyn.models.placement.resolve_device` reads it.

    Raises:
        InputError: Where the folder holds a demonstration of other settings, or cannot be made.
    """
    try:
        return _run(out, epochs, seed, samples, resolve_device(device))
    except (OtherRunError, StoreError) as error:
        raise InputError(f"{error} (for the demonstration: another folder by --out)") from error


def _run(out: Path, epochs: int, seed: int, samples: int, device: torch.device) -> Outcome:
    started = time.monotonic()
    available = len(load_data("digits", "train"))
    if not 1 <= samples <= available:
        raise InputError(f"got {samples} samples, expected between 1 and the {available} of digits (train)")
    check_own_folder(out, "checkpoint")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; choose another by --out") from error
    recipe = replace(DIGITS_RECIPE, epochs=epochs, seed=seed)
    say(f"training 8 residual blocks of width 64 on 1500 handwritten digits for {epochs} epochs")
    monitor = Monitor(every=max(1, epochs // 12), samples=5)
    trained = train_digits(recipe=recipe, callbacks=[monitor], checkpoint=out / "checkpoint", device=device)
    weights = out / "weights.safetensors"
    with whole_file(weights) as partial:
        save_file(trained.model.state_dict(), partial)
    say(f"test accuracy {percent(trained.test_accuracy)} on {len(trained.test)} held-out digits; measuring")
    store = out / "store.zarr"
    dataset = capture(
        trained.model,
        trained.train,
        PROBES,
        store,
        samples=samples,
        seed=seed,
        command=command_line(),
        notes=notes(trained, epochs),
        training=trained.history.results[0],
    )
    twin = untrained_twin(trained.model, seed + 1)
    null = capture(
        twin,
        trained.train,
        PROBES,
        null_store(store),
        samples=min(samples, NULL_SAMPLES),
        seed=seed,
        command=command_line(),
        notes=[NOTE.format(seed=seed + 1)],
    )
    return Outcome(Measured(dataset, null), store, weights, trained.test_accuracy, time.monotonic() - started)


def notes(trained: TrainedDigits, epochs: int) -> list[str]:
    """What a reader of the report must know about the run behind it."""
    return [
        f"Trained here for {epochs} epochs on {len(trained.train)} digits of scikit-learn by plain SGD (Li and Papyan "
        f"2023, section 2.3, scaled down); accuracy on the {len(trained.test)} held-out digits: "
        f"{percent(trained.test_accuracy)}. "
        "Jacobians are measured at training images, as in the paper."
    ]
