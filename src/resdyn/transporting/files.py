"""Lens files that other programs write and read: torch files of plain tensors, and safetensors."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from resdyn import _checks as checks
from resdyn._files import whole_file
from resdyn._version import __version__
from resdyn.errors import InputError

if TYPE_CHECKING:
    from resdyn.transporting.lens import Transport

FORMATS = (".pt", ".safetensors")
RECORDED = (
    "model",
    "weights_hash",
    "data",
    "split",
    "reduction",
    "definition",
    "average_targets",
    "positions",
    "causal",
    "dtype",
    "seed",
)
PREFIX = "J."


def save(lens: Transport, path: str | Path, dtype: torch.dtype) -> Path:
    """Write a lens in the common format; see `Transport.save`."""
    place = checks.new_file("path", path)
    if place.suffix not in FORMATS:
        raise InputError(f"got the path '{place}', expected one that ends in {' or '.join(FORMATS)}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"got dtype={dtype!r}, expected a floating-point dtype of torch")
    matrices = _layers(lens, dtype)
    width = lens.dataset.sizes["row"]
    attrs = lens.dataset.attrs
    recorded = {name: attrs[name] for name in RECORDED if name in attrs}
    recorded["relative_error"] = {str(d - 1): error for d, error in lens.relative_error.items() if d - 1 in matrices}
    metadata = {"source": f"resdyn {__version__}", "target_layer": _target_layer(lens), "resdyn": recorded}
    with whole_file(place) as partial:
        if place.suffix == ".pt":
            content = {"J": matrices, "n_prompts": lens.num_samples, "source_layers": list(matrices)}
            torch.save(content | {"d_model": width, "metadata": metadata}, partial)
        else:
            texts = {"n_prompts": str(lens.num_samples), "d_model": str(width), "metadata": json.dumps(metadata)}
            save_file({f"{PREFIX}{layer}": matrix for layer, matrix in matrices.items()}, partial, texts)
    return place


def _target_layer(lens: Transport) -> int:
    return int(lens.target) - 1


def _layers(lens: Transport, dtype: torch.dtype) -> dict[int, Tensor]:
    """The matrices by layer: of the outputs of blocks, the target's own left out."""
    if isinstance(lens.target, str) or lens.dataset.attrs["granularity"] != "layer":
        raise InputError(
            f"got a transport to {lens.target} of granularity '{lens.dataset.attrs['granularity']}'; a lens file holds "
            "layers of a transformer and their transport to a state: use granularity='layer' and to='final'"
        )
    found = {}
    for depth in lens.depths:
        if not 0 < depth < lens.target:
            continue
        matrix = lens[depth]
        if matrix.shape[0] != matrix.shape[1]:
            raise InputError(
                f"the transport from depth {depth} is {tuple(matrix.shape)}; a lens file holds square ones"
            )
        found[depth - 1] = matrix.to(dtype).contiguous()
        if not bool(found[depth - 1].isfinite().all()):
            raise InputError(f"the transport from depth {depth} overflows in {dtype}; pass dtype=torch.float32")
    if not found:
        raise InputError(f"got depths {list(lens.depths)}, of which none is the output of a layer before the last")
    return found


def load(path: Path, divide: bool) -> Transport:
    """Read a lens file; see `load_transport`."""
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    if "J" not in content and "jacobian_sum" in content:
        content = _divided(path, content, divide)
    return _lens(path, content)


def _torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # its message tells how to load unsafely
        raise InputError(
            f"'{path}' is not a torch file of plain tensors and numbers alone; nothing in it was run"
        ) from error
    except Exception as error:
        raise InputError(
            f"'{path}' is not a torch file of tensors ({type(error).__name__}); nothing was run"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"'{path}' holds a {type(content).__name__}, expected a mapping with the key 'J'")
    return content


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            matrices = {key.removeprefix(PREFIX): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        numbers = {name: int(texts[name]) for name in ("n_prompts", "d_model") if name in texts}
        return {"J": {int(layer): matrix for layer, matrix in matrices.items()}, **numbers} | {
            "metadata": json.loads(texts.get("metadata", "{}"))
        }
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a lens in safetensors, keys {PREFIX}LAYER ({error})") from error


def _divided(path: Path, content: Mapping[str, Any], divide: bool) -> Mapping[str, Any]:
    if not divide:
        raise InputError(
            f"'{path}' is a fitting checkpoint: it holds sums over prompts, not a lens; pass divide=True to read the "
            "mean so far"
        )
    count = content.get("n_done", content.get("n_prompts"))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or not _is_matrices(content["jacobian_sum"]):
        raise InputError(f"'{path}' is a fitting checkpoint of n_done={count!r} prompts; expected one or more")
    matrices = {layer: matrix.float() / count for layer, matrix in content["jacobian_sum"].items()}
    return dict(content) | {"J": matrices, "n_prompts": count}


def _is_matrices(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and bool(found)
        and all(isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 for layer in found)
        and all(isinstance(matrix, Tensor) and matrix.dim() == 2 for matrix in found.values())
    )


def _lens(path: Path, content: Mapping[str, Any]) -> Transport:
    from resdyn.transporting.lens import Transport

    matrices, count = content.get("J"), content.get("n_prompts")
    if isinstance(matrices, Mapping) and all(isinstance(key, str) and key.isdecimal() for key in matrices):
        matrices = {int(layer): matrix for layer, matrix in matrices.items()}  # as some programs write them
    if not _is_matrices(matrices):
        keys = ", ".join(map(str, list(content)[:8]))
        raise InputError(f"'{path}' holds {keys or 'nothing'}; expected the key 'J' with one matrix per layer number")
    assert isinstance(matrices, Mapping)
    width = len(next(iter(matrices.values())))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"'{path}' says n_prompts={count!r}, expected how many samples are behind the mean")
    for layer, matrix in matrices.items():
        if tuple(matrix.shape) != (width, width) or content.get("d_model", width) != width:
            raise InputError(
                f"'{path}': layer {layer} is {tuple(matrix.shape)}, expected ({width}, {width}) and d_model={width}"
            )
        if not matrix.is_floating_point() or not bool(matrix.isfinite().all()):
            raise InputError(f"'{path}': layer {layer} is not of finite floating-point numbers; the file is damaged")
    layers = sorted(matrices)
    return Transport(_dataset(path, {layer: matrices[layer] for layer in layers}, count, content.get("metadata")))


def _dataset(path: Path, matrices: dict[int, Tensor], count: int, metadata: Any) -> xr.Dataset:
    recorded = dict(metadata) if isinstance(metadata, Mapping) else {}
    ours = recorded.get("resdyn")
    own = dict(ours) if isinstance(ours, Mapping) else {}
    width = len(next(iter(matrices.values())))
    target = recorded.get("target_layer")
    to = target + 1 if isinstance(target, int) and not isinstance(target, bool) else None
    depths = np.asarray([layer + 1 for layer in matrices])
    values = np.stack([matrix.float().numpy() for matrix in matrices.values()])
    return xr.Dataset(
        {"transport": (("depth", "row", "column"), values)},
        {"depth": depths, "columns": ("depth", np.full(len(depths), width))},
        {
            "reduction": "sum",
            "positions": {},
            **own,
            "measurement": "transport",
            "file": str(path),
            "file_metadata": recorded,
            "num_samples": count,
            "to": to,
            "granularity": "layer",
            "dtype": str(next(iter(matrices.values())).dtype).removeprefix("torch."),
            "notes": ["Read from a lens file, which holds no errors."],
        },
    )
