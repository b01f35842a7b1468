"""A shrunken model on disk: weights as safetensors, and beside them which blocks of which model are gone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from resdyn.errors import InputError
from resdyn.models import LoadedModel, load_model, load_weights
from resdyn.pruning.surgery import drop

FORMAT = "resdyn pruned model 1"
DESCRIPTION, WEIGHTS = "pruned.json", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class PrunedModel:
    """The model in eval mode, and the description that was written with it."""

    model: nn.Module
    description: dict[str, Any]


def save_pruned(folder: Path, loaded: LoadedModel, modules: list[str], description: dict[str, Any]) -> None:
    """Write a model from which `modules` have been dropped; files as wholes or not at all, the description last."""
    content = {"format": FORMAT, "model": loaded.name, "original_weights_hash": loaded.weights_hash, "dropped": modules}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        tensors = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in loaded.model.state_dict().items()
        }
        save_file(tensors, folder / f"{WEIGHTS}.partial", metadata={"format": "pt"})
        os.replace(folder / f"{WEIGHTS}.partial", folder / WEIGHTS)
        partial = folder / f"{DESCRIPTION}.partial"
        partial.write_text(json.dumps(content | description, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, folder / DESCRIPTION)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}; choose another --out") from error


def load_pruned(folder: str | Path) -> PrunedModel:
    """Build the model that `folder/pruned.json` names, take the dropped blocks out, fill in the weights.

    Errors: InputError where the folder holds no pruned model, or weights that do not fit it.
    """
    path = Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        spec, modules, known = description["model"], description["dropped"], description["format"] == FORMAT
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"'{folder}' holds no pruned model ({error}); one is written by resdyn prune") from error
    if not known:
        raise InputError(f"'{path}' is of the format {description['format']!r}, expected {FORMAT!r}")
    with torch.random.fork_rng(devices=[]):
        model = load_model(spec).model
    drop(model, modules)
    load_weights(model, Path(folder) / WEIGHTS)
    return PrunedModel(model.eval(), description)
