"""How a step is computed: precision of products, automatic mixed precision, memory format of images and kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from resdyn.errors import InputError
from resdyn.training.recipe import Recipe

IMAGES = 4  # dimensions of a batch of images (N, C, H, W), and of the kernels of a convolution


@contextmanager
def computing_as(recipe: Recipe, model: nn.Module) -> Iterator[None]:
    """Products at the recipe's precision and kernels in its memory format; both as they were afterwards."""
    _check(recipe, model)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(recipe.matmul_precision)
    formats = _reformat(model, torch.channels_last) if recipe.memory_format == "channels_last" else []
    hooks = _float32_norms(model) if recipe.autocast != "off" else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        torch.set_float32_matmul_precision(before)
        for tensor in formats:
            tensor.data = tensor.data.contiguous()


def predict(recipe: Recipe, model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits of a batch, in the precision of the weights whatever the precision of the layers.

    Args:
        recipe: Says in which format and precision.
        model: The network.
        inputs: A batch on the model's device, in the dtype of its weights.
    """
    if recipe.memory_format == "channels_last" and inputs.dim() == IMAGES:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if recipe.autocast == "off":
        logits: Tensor = model(inputs)
        return logits
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        logits = model(inputs)
    return logits.to(inputs.dtype)


def _float32_norms(model: nn.Module) -> list[RemovableHandle]:
    """Give layer norms their inputs in float32, as autocast does on GPUs.

    On a CPU (torch 2.13) the gradient of their bias is otherwise summed in bfloat16, where it stops growing at 256 rows
    (`findings/torch_layer_norm_gradient_stops_growing_in_bfloat16.sh`).
    """

    def widen(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> tuple[Any, Any]:
        return tuple(arg.float() for arg in args), {name: arg.float() for name, arg in kwargs.items()}

    norms = [layer for layer in model.modules() if isinstance(layer, nn.LayerNorm)]
    return [layer.register_forward_pre_hook(widen, with_kwargs=True) for layer in norms]


def _check(recipe: Recipe, model: nn.Module) -> None:
    if recipe.memory_format == "channels_last" and any(isinstance(layer, nn.GroupNorm) for layer in model.modules()):
        raise InputError(
            "got memory_format 'channels_last' for a network with group norms, which lose the variance of values with "
            "a large mean there (torch 2.13 on a CPU); set memory_format='contiguous'"
        )
    kinds = {weight.dtype for weight in model.parameters()}
    if recipe.autocast != "off" and kinds != {torch.float32}:
        raise InputError(
            f"got autocast '{recipe.autocast}' for weights of {', '.join(map(str, kinds))}; expected float32 weights; "
            "set autocast='off' or convert the model"
        )


def _reformat(model: nn.Module, form: torch.memory_format) -> list[Tensor]:
    """Parameters and buffers (O, I, H, W), which were contiguous and now have another format."""
    chosen = [t for t in (*model.parameters(), *model.buffers()) if t.dim() == IMAGES and t.is_contiguous()]
    for tensor in chosen:
        tensor.data = tensor.data.contiguous(memory_format=form)
    return chosen
