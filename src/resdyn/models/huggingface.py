"""Models of the transformers library, from a folder or from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resdyn.data.preprocessing import Preprocessing
from resdyn.errors import InputError, require
from resdyn.models.weights import check_complete, check_kinds, does_not_fit, listed, read_tensors

_IMAGE_SIZE, _TOKENS, _SAMPLES = 224, 16, 16000


class TensorOutput(nn.Module):
    """A transformers model that returns one tensor: its logits, or otherwise its last hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.model(inputs)
        return output.logits if "logits" in output else output.last_hidden_state


def load(name: str, weights: Path | None) -> tuple[TensorOutput, Preprocessing, Tensor | None]:
    """The model that wrote the configuration, its preprocessing and, where it does not take images, an example.

    Weights come from safetensors only, or from the file given (``read_tensors``), and code that comes with a model is
    never run. The model is in float32, whatever precision it was saved in.
    """
    transformers = require("transformers", extra="hf")
    if not Path(name).is_dir() and (name.startswith((".", "/")) or name.count("/") > 1):
        raise InputError(f"no folder at '{name}', expected hf:<folder> or hf:<id of the hub>")
    tensors = None if weights is None else read_tensors(weights)
    with _without_output(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            config.use_cache = False
            model, info = _build(_model_class(transformers, config), config, name, tensors)
        except Exception as error:
            raise _cannot_load(name, error) from error
        _check_complete(weights or name, info)
        check_kinds(model.state_dict(), tensors if tensors is not None else _quantised(name), weights or name)
        return TensorOutput(model), *_inputs(transformers, name, config, model)


def encoder(name: str) -> Callable[[str], list[int]]:
    """Text -> token ids by a model's own tokenizer, without special tokens."""
    transformers = require("transformers", extra="hf")
    with _without_output(transformers):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except Exception as error:
            raise InputError(f"transformers finds no tokenizer for '{name}': {str(error).strip()}") from error
    return partial(tokenizer.encode, add_special_tokens=False)


def _cannot_load(name: str, error: Exception) -> InputError:
    return InputError(
        f"transformers cannot load '{name}': {str(error).strip()} Expected a folder or hub id with "
        "config.json and model.safetensors (pickled weights are never opened)"
    )


def _model_class(transformers: Any, config: Any) -> Any:
    """The class that saved the model, so that no head is missing or invented; otherwise the bare model."""
    for architecture in config.architectures or ():
        if hasattr(transformers, architecture):
            return getattr(transformers, architecture)
    with torch.device("meta"):
        return type(transformers.AutoModel.from_config(config))


def _build(
    model_class: Any, config: Any, name: str, tensors: dict[str, Tensor] | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The library renames old tensors on the way, hence also for a weights file."""
    where = None if tensors is not None else name
    return model_class.from_pretrained(
        where,
        config=config,
        state_dict=tensors,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )


def _check_complete(origin: str | Path, info: dict[str, Any]) -> None:
    """Superfluous tensors are accepted, since hub models often carry them; missing or misshapen ones are not."""
    wrong = [f"{key} has {tuple(got)}, expected {tuple(want)}" for key, got, want in info["mismatched_keys"]]
    if wrong:
        raise does_not_fit(origin, listed(wrong))
    check_complete(origin, sorted(info["missing_keys"]), [])


def _quantised(name: str) -> dict[str, Tensor]:
    """The tensors of a folder that are not real numbers; quantised weights of the hub declare their method."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(Path(name).glob("*.safetensors")) if Path(name).is_dir() else ():
        tensors |= {key: tensor for key, tensor in read_tensors(path).items() if not tensor.is_floating_point()}
    return tensors


@contextmanager
def _without_output(transformers: Any) -> Iterator[None]:
    """No progress bars and no loading report: what is wrong is raised."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _inputs(transformers: Any, name: str, config: Any, model: Any) -> tuple[Preprocessing, Tensor | None]:
    """The kind of the model's main input: pixels (no example needed), sound or token ids."""
    if model.main_input_name == "pixel_values":
        return _image_preprocessing(transformers, name, config), None
    if model.main_input_name == "input_values":
        return Preprocessing(), torch.sin(torch.arange(_SAMPLES) * 0.1)[None]
    return Preprocessing(), torch.arange(_TOKENS)[None] % config.vocab_size


def _image_preprocessing(transformers: Any, name: str, config: Any) -> Preprocessing:
    """Size and normalisation from preprocessor_config.json; otherwise the dataset's normalisation."""
    image_config = _preprocessor_config(transformers, name)
    size = image_config.get("crop_size") or image_config.get("size") or getattr(config, "image_size", _IMAGE_SIZE)
    input_size = (getattr(config, "num_channels", 3), *_height_width(size))
    if not image_config.get("do_normalize", True):
        return Preprocessing(input_size, mean=(0.0,), std=(1.0,))
    mean, std = image_config.get("image_mean"), image_config.get("image_std")
    return Preprocessing(input_size, mean and tuple(mean), std and tuple(std))


def _preprocessor_config(transformers: Any, name: str) -> dict[str, Any]:
    path = transformers.utils.cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path is not None else {}


def _height_width(size: Any) -> tuple[int, int]:
    """Height and width from a side, a pair, or the library's mapping with height and width or the shortest edge."""
    if isinstance(size, dict):
        size = [size.get(key, size.get("shortest_edge", _IMAGE_SIZE)) for key in ("height", "width")]
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
