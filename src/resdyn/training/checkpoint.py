"""A training run in one safetensors file: tensors, and everything else as JSON in its header."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from resdyn._files import whole_file
from resdyn.errors import InputError

_FORMAT = "resdyn training checkpoint 2"


class OtherRunError(InputError):
    """A checkpoint belongs to a run with other settings."""


@dataclass(frozen=True)
class Checkpoint:
    """`settings` say which run this is, `progress` is plain JSON, `tensors` are named tensors."""

    settings: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file under another name, flush it to disk and rename it: a kill leaves the old file or the new one.

    Args:
        path: The file; its folder is made if it is not there.
        checkpoint: Its tensors may be on any device; they are written as they are on the CPU.
    """
    header = {"settings": checkpoint.settings, "progress": checkpoint.progress}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in checkpoint.tensors.items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"format": _FORMAT, "json": json.dumps(header)})


def load_checkpoint(path: Path, settings: dict[str, Any]) -> Checkpoint:
    """Read a checkpoint of the run with these settings.

    Args:
        path: A safetensors file that `save_checkpoint` wrote.
        settings: Of the run that asks; compared with those in the file.

    Raises:
        InputError: If the file is damaged or is not a checkpoint.
        OtherRunError: If it belongs to other settings, which the message names (an InputError too).
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"checkpoint '{path}' is damaged ({error}): delete it to train again") from error
    if metadata.get("format") != _FORMAT:
        raise InputError(f"'{path}' is not a checkpoint of a training run: give another path, or delete it")
    header = json.loads(metadata["json"])
    _check_settings(path, header["settings"], json.loads(json.dumps(settings)))
    return Checkpoint(settings=header["settings"], progress=header["progress"], tensors=tensors)


def _check_settings(path: Path, stored: dict[str, Any], expected: dict[str, Any]) -> None:
    different = [
        f"{key}: {stored.get(key)} there, {expected.get(key)} now"
        for key in sorted(stored.keys() | expected.keys())
        if stored.get(key) != expected.get(key)
    ]
    if different:
        raise OtherRunError(
            f"checkpoint '{path}' belongs to another run ({'; '.join(different)}): give another path, or "
            "delete it to train again"
        )


def split_states(states: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Callback states as their JSON parts, in order, and their tensors under `callback.<i>.<name>`."""
    plain = [{k: v for k, v in state.items() if not isinstance(v, torch.Tensor)} for state in states]
    tensors = {
        f"callback.{i}.{key}": value
        for i, state in enumerate(states)
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    return plain, tensors


def join_states(plain: list[dict[str, Any]], tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The inverse of `split_states`."""
    return [{**state, **with_prefix(tensors, f"callback.{i}.")} for i, state in enumerate(plain)]


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
