"""Measuring a network during its training without side effects."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from resdyn._torch import uncompiled
from resdyn.stream.placement import model_device

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and the wrapper of ``torch.compile``."""
    while True:
        inner = model.module if isinstance(model, WRAPPERS) else uncompiled(model)
        if inner is None:
            return model
        model = inner


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode; afterwards each back in its own mode.

    Only the flags are set: a module's own `train` and `eval` may do more (merge weights, freeze a part).
    """
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode, no autocast inside; afterwards everything is restored, also after an error.

    That is: the mode of each module, the states of the random generators (Python, numpy, torch on the CPU and on every
    CUDA device in use), whether gradients are recorded, inference mode and autocast. What a pass of the model leaves in
    its buffers and attributes is undone where it is run (`preserve_state`). The body must not write to weights and
    gradients.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002, the loop's own generator
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(model_device(model).type, enabled=False),
            eval_mode(model),
            _own_forward(model),
        ):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _own_forward(model: nn.Module) -> Iterator[None]:
    """Use the original forward (``_original_forward``) where accelerate has wrapped it in autocast."""
    original, wrapped = model.__dict__.get("_original_forward"), model.__dict__.get("forward")
    if original is None or wrapped is None:
        yield
        return
    model.forward = original
    try:
        yield
    finally:
        model.forward = wrapped


def synchronize(model: nn.Module) -> None:
    """Wait for pending work of a GPU, so that timings are attributed correctly."""
    if model_device(model).type == "cuda":
        torch.cuda.synchronize()
