"""Pruned models on disk: weights as safetensors, and beside them which blocks of which model were removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from resdyn import _checks as checks
from resdyn._files import whole_file
from resdyn.data.pixels import read_regular
from resdyn.errors import InputError
from resdyn.interventions.pruning.surgery import drop
from resdyn.models import LoadedModel, load_model, load_weights
from resdyn.models.spec import parse_spec

FORMAT = "resdyn pruned model 1"
DESCRIPTION, WEIGHTS = "pruned.json", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class PrunedModel:
    """A pruned model, as ``load_pruned`` returns it.

    Attributes:
        model: in eval mode.
        description: the content of its pruned.json.
    """

    model: nn.Module
    description: dict[str, Any]


def check_own_folder(folder: Path, mark: str = DESCRIPTION) -> None:
    """Refuse a folder with weights that have no ``mark`` beside them: they would be overwritten."""
    if (folder / WEIGHTS).exists() and not (folder / mark).exists():
        raise InputError(
            f"'{folder / WEIGHTS}' exists already and was not written by resdyn; choose another folder with --out"
        )


def save_pruned(folder: Path, loaded: LoadedModel, modules: list[str], description: dict[str, Any]) -> None:
    """Write a model from which ``modules`` have been dropped, atomically, the description last.

    Args:
        folder: for ``weights.safetensors`` and ``pruned.json``; created if need be.
        loaded: the model after ``drop``, with its specification and original hash.
        modules: paths of the dropped modules.
        description: more entries of pruned.json, which JSON can hold.

    Raises:
        InputError: a folder that cannot be written.
    """
    content = {"format": FORMAT, "model": loaded.name, "original_weights_hash": loaded.weights_hash, "dropped": modules}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        tensors = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in loaded.model.state_dict().items()
        }
        with whole_file(folder / WEIGHTS) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})
        with whole_file(folder / DESCRIPTION) as partial:
            partial.write_text(json.dumps(content | description, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}; choose another --out") from error


def load_pruned(
    folder: str | Path, *, allow_code: bool = False, factory: Callable[[], nn.Module] | None = None
) -> PrunedModel:
    """Build the model that ``folder/pruned.json`` names, remove the dropped blocks, load the weights.

    Args:
        folder: written by ``save_pruned`` or ``resdyn prune``.
        allow_code: run the Python file that the folder names, if it names one (default False): whoever wrote the folder
            decides which file.
        factory: builds the model instead, of the same structure and unpruned.

    Returns:
        The model in eval mode, and the description.

    Raises:
        InputError: a folder that does not hold a pruned model, that names code which may not be run, or weights that do
            not fit.
    """
    path = checks.path("folder", folder) / DESCRIPTION
    try:
        description = json.loads(read_regular(path).decode("utf-8"))
        spec = checks.text("model", description["model"])
        modules, known = checks.words("dropped", description["dropped"]), description["format"] == FORMAT
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"'{folder}' does not hold a pruned model ({error}); resdyn prune writes one") from error
    if not known:
        raise InputError(f"'{path}' is of the format {description['format']!r}, expected {FORMAT!r}")
    if factory is None and parse_spec(spec).scheme == "file" and not checks.flag("allow_code", allow_code):
        raise InputError(
            f"'{path}' names the code of '{spec}', which would be run; where you trust it, pass allow_code=True, or "
            "the function itself as factory"
        )
    with torch.random.fork_rng(devices=[]):
        model = load_model(spec).model if factory is None else factory()
    checks.instance("a model", model, nn.Module, "a torch.nn.Module")
    drop(model, modules)
    load_weights(model, Path(folder) / WEIGHTS)
    return PrunedModel(model.eval(), description)
