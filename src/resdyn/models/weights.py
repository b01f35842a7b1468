"""Weights from files that cannot run code, checked tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resdyn._hash import tensor_bytes
from resdyn.errors import InputError

_ZIP_START = b"PK\x03\x04"
_PICKLE_STARTS = {b"\x80" + bytes([protocol]) for protocol in range(2, 6)}
_CONVERT = "where you trust it, convert it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
_WRAPPERS = ("state_dict", "model")
_PREFIX = "module."


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every entry of the state dict, in order of name.

    Args:
        model: any module.

    Returns:
        64 hexadecimal digits; independent of device and file format.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a state dict, strictly, from a safetensors file or a torch file that holds nothing but tensors.

    The file's content decides which kind it is. Torch files are read by ``torch.load(weights_only=True)``; a wrapper
    ``{"state_dict": ...}`` around the tensors and a prefix ``module.`` of all names are removed. Values are cast to the
    dtype of the model. A tensor tied to one that is present may be missing, and so may batch norm's counter
    ``num_batches_tracked``.

    Args:
        model: the network; its parameters and buffers are overwritten.
        path: the file.

    Raises:
        InputError: a missing, truncated or corrupt file, a pickle (which is not opened), missing or unexpected tensors,
            wrong shapes, integer or complex numbers where the model has real ones, NaN and infinity; each names the
            tensors.
    """
    tensors = read_tensors(Path(path))
    expected = model.state_dict()
    _check_names(expected, tensors, path)
    _check_shapes(expected, tensors, path)
    check_kinds(expected, tensors, path)
    check_finite(tensors.items(), str(path))
    cast = {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}
    check_finite(cast.items(), f"{path} in the model's precision")
    model.load_state_dict(tensors, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file or a tensors-only torch file."""
    if not path.is_file():
        raise InputError(f"no weights file at '{path}'")
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] in _PICKLE_STARTS and start[8:9] != b"{":
        raise InputError(f"'{path}' is a pickle, which could run code and is never opened here: {_CONVERT}")
    if start.startswith(_ZIP_START):
        return _tensors_only(_read_torch(path), path)
    return _read_safetensors(path)


def check_finite(tensors: Iterable[tuple[str, Tensor]], origin: str) -> None:
    """Refuse NaN and infinity, naming the tensors."""
    bad = [n for n, t in tensors if t.is_floating_point() and not bool(torch.isfinite(_wide(t)).all())]
    if bad:
        raise InputError(
            f"{origin}: NaN or infinite values in {listed(bad)}; every measurement would be NaN: "
            "use a checkpoint from before the training diverged"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"'{path}' is not a readable safetensors file ({error}): it may be truncated; copy it again, "
            "or compare its size and checksum with the original"
        ) from error


def _read_torch(path: Path) -> Any:
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"'{path}' holds more than tensors, which could run code and is never opened here: {_CONVERT}"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"'{path}' is not a readable torch file ({reason}): copy it again") from error


def _tensors_only(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(f"'{path}' holds no state dict (a mapping from names to tensors): {_CONVERT}")
    if all(name.startswith(_PREFIX) for name in content):
        content = {name.removeprefix(_PREFIX): tensor for name, tensor in content.items()}
    return dict(content)


def _check_names(expected: dict[str, Tensor], loaded: dict[str, Tensor], path: str | Path) -> None:
    # tied tensors share memory: one of them fills the others
    filled = {tensor.data_ptr() for name, tensor in expected.items() if name in loaded}
    missing = [
        name
        for name, tensor in expected.items()
        if name not in loaded and tensor.data_ptr() not in filled and not name.endswith("num_batches_tracked")
    ]
    unexpected = [n for n in loaded if n not in expected]
    check_complete(path, missing, unexpected)


def check_complete(origin: str | Path, missing: list[str], unexpected: list[str]) -> None:
    """Refuse weights with missing or unexpected tensors, naming them."""
    both = (("missing", missing), ("unexpected", unexpected))
    parts = [f"{what} {listed(names)}" for what, names in both if names]
    if parts:
        raise does_not_fit(origin, "; ".join(parts))


def _check_shapes(expected: dict[str, Tensor], loaded: dict[str, Tensor], path: str | Path) -> None:
    wrong = [
        f"{name} has {tuple(loaded[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in loaded and loaded[name].shape != tensor.shape
    ]
    if wrong:
        raise does_not_fit(path, listed(wrong))


def check_kinds(expected: Mapping[str, Tensor], loaded: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse tensors whose numbers would not mean the same in the model's dtype.

    Integers in place of real numbers are quantised weights, or something else, and a complex number has a part that
    would be lost. Real numbers may have any precision, and integers and booleans any width that holds them.
    """
    wrong = [
        f"{name} is {loaded[name].dtype}, expected {tensor.dtype}"
        for name, tensor in expected.items()
        if name in loaded and not _means_the_same(loaded[name], tensor.dtype)
    ]
    if wrong:
        raise InputError(
            f"'{path}' does not fit the model: {listed(wrong)}. Give weights in floating point: instead of a "
            "quantised checkpoint the one that it was made from, or what its own library decodes"
        )


def _wide(tensor: Tensor) -> Tensor:
    """Floating point of 8 bits, which supports hardly any operations, as float32."""
    return tensor.float() if tensor.itemsize == 1 else tensor


def _means_the_same(tensor: Tensor, dtype: torch.dtype) -> bool:
    if tensor.dtype == dtype:
        return True
    if tensor.is_floating_point() and dtype.is_floating_point:
        return tensor.itemsize > 1  # numbers of 8 bits are multiples of a scale stored elsewhere
    if dtype.is_floating_point or dtype.is_complex or tensor.is_complex():
        return bool(dtype.is_complex and tensor.is_complex())
    return torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def does_not_fit(origin: str | Path, reason: str) -> InputError:
    """The error for weights of another model."""
    return InputError(
        f"'{origin}' does not fit the model: {reason}. Check that model and options (such as depth, width, "
        "classes) are those that were trained"
    )


def listed(names: list[str], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
