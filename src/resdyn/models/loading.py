"""From a specification to a model that is ready to be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from resdyn import _checks as checks
from resdyn.data.preprocessing import Preprocessing
from resdyn.errors import InputError
from resdyn.models import huggingface, origins
from resdyn.models.placement import place
from resdyn.models.spec import ModelSpec, parse_spec
from resdyn.models.weights import check_finite, load_weights, weights_hash
from resdyn.stream.placement import like_weights, model_device, model_dtype
from resdyn.stream.preserve import preserve_state
from resdyn.stream.refusals import plain_model

_ORIGINS: dict[str, Callable[[ModelSpec, Path | None], origins.Origin]] = {
    "resdyn": origins.from_resdyn,
    "file": origins.from_file,
    "hf": origins.from_huggingface,
    "timm": origins.from_timm,
    "torchvision": origins.from_torchvision,
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in eval mode, with its input and provenance.

    Attributes:
        model: the network.
        name: the specification that it was loaded by.
        example_input: one valid input (batch of 1) in the model's dtype, or None where a user's factory does not
            declare one.
        preprocessing: from images to inputs (``ImageData.prepared``).
        weights_hash: ``weights_hash(model)``.
        num_classes: C where the output is (N, C), otherwise None.
        notes: what a reader of any number must know.
    """

    model: nn.Module
    name: str
    example_input: Tensor | None
    preprocessing: Preprocessing
    weights_hash: str
    num_classes: int | None
    notes: tuple[str, ...] = ()


def load_model(
    spec: str,
    weights: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Build the model that ``spec`` names, load ``weights``, switch it to eval mode and check it.

    A model in training mode is switched to eval mode: batch norm would otherwise depend on the batch.

    Args:
        spec: ``file.py:factory`` (that file is run, and ``factory()`` called: it returns a module, or a module and an
            example input; attributes ``input_size``, ``mean``, ``std`` of the module are respected), ``resdyn:<net>``,
            ``hf:<id or folder>``, ``timm:<name>`` or ``torchvision:<name>``; all but ``hf:`` take options, as in
            ``resdyn:mlp,width=64,depth=8``.
        weights: a safetensors file, or a torch file of tensors only; nothing is ever unpickled. Without it, ``resdyn:``
            networks are random (seed 0, and a note says so), a factory's model is as it returns it, and the others
            fetch their trained weights.
        device: where the model is moved: "auto", "cpu", "cuda", "cuda:1", "mps"; None (default) leaves it where it is.
        dtype: precision that it is cast to: "float32", "float64", ...; None (default) keeps its own. The weights' hash
            is that of the cast weights.

    Returns:
        The model with its preprocessing, example input and provenance.

    Raises:
        InputError: an unknown model or option, weights that do not fit, are damaged or not finite, or a model that does
            not accept its own example input.
        MissingExtraError: an ``hf:``, ``timm:`` or ``torchvision:`` model without its package.

    Example:
        >>> load_model("resdyn:mlp,width=8,depth=2").num_classes
        10
    """
    parsed = parse_spec(checks.text("model", spec))
    path = None if weights is None else checks.path("weights", weights)
    origin = _ORIGINS[parsed.scheme](parsed, path)
    model = plain_model(origin.model).eval()
    if path is not None and not origin.filled:
        load_weights(model, path)
    check_finite(model.state_dict().items(), spec)
    place(model, device, dtype)
    example = origin.example_input
    if example is None:
        example = _example(origin.preprocessing, model_dtype(model))
    if example is not None:
        example = _fed(example, model, dtype is not None)
    return LoadedModel(
        model=model,
        name=spec,
        example_input=example,
        preprocessing=origin.preprocessing,
        weights_hash=weights_hash(model),
        num_classes=None if example is None else _num_classes(model, example, spec),
        notes=origin.notes,
    )


def text_encoder(loaded: LoadedModel) -> Callable[[str], Sequence[int]]:
    """The encoder text -> token ids of a model: its own method ``encode``, or the tokenizer of an ``hf:`` model.

    Args:
        loaded: by ``load_model``.

    Returns:
        A function from a text to a sequence of token ids, without special tokens.

    Raises:
        InputError: a model that has neither.
        MissingExtraError: an ``hf:`` model without the ``transformers`` package.
    """
    own = getattr(loaded.model, "encode", None)
    if callable(own):
        return own
    parsed = parse_spec(loaded.name)
    if parsed.scheme != "hf":
        raise InputError(
            f"{loaded.name} does not declare how text becomes tokens; give the module a method encode(text) -> "
            "token ids, or pass a tensor of token ids to resdyn.capture"
        )
    return huggingface.encoder(parsed.name)


def _example(preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor | None:
    """A fixed smooth input of the right size: the same in every run, and nowhere constant."""
    size = preprocessing.input_size
    if size is None:
        return None
    return torch.sin(torch.arange(math.prod(size)) * 0.7).reshape(1, *size).to(dtype)


def _fed(example: Tensor, model: nn.Module, cast: bool) -> Tensor:
    """The example where the model is; in its precision if the model was cast."""
    return like_weights(example, model) if cast else example.to(model_device(model))


def _num_classes(model: nn.Module, example: Tensor, spec: str) -> int | None:
    try:
        with torch.no_grad(), preserve_state(model):
            output = model(torch.cat([example, example]))  # a norm over a single value refuses one sample
    except Exception as error:
        raise InputError(
            f"{spec} does not accept its example input of shape {tuple(example.shape)}: {error}"
        ) from error
    return output.shape[1] if isinstance(output, Tensor) and output.ndim == 2 else None
