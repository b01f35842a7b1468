"""Models of kinds that cannot be measured, each refused with its reason and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from resdyn._torch import is_traceable_wrapper_subclass, pytree, uncompiled
from resdyn.errors import InputError
from resdyn.stream.configuration import OWN

PARALLEL = {"DataParallel", "DistributedDataParallel"}
SHARDED = {"FullyShardedDataParallel"}
UNROUNDED = "rounded weights have no derivative; pass the model from before its quantisation"
QUANTIZED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def plain_model(model: nn.Module) -> nn.Module:
    """The network itself, out of the wrapper that `torch.compile` puts around it.

    Raises InputError for what is not a module of plain tensors with values: wrappers for several devices, TorchScript,
    quantised networks, and weights that are lazy, sharded, sparse, nested or on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch.nn.Module, got {type(model).__name__}; pass the model itself")
    while (inner := uncompiled(model)) is not None:
        model = inner
    for path, module in model.named_modules():
        where = f"{path} ({type(module).__name__})" if path else type(module).__name__
        _check_module(module, where, path)
    for name, value in named_tensors(model):
        if reason := unusual(value):
            raise InputError(f"weight {name!r} {reason}")
    return model


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers, and tensors that are plain attributes of modules, or in lists and dicts there."""
    yield from model.named_parameters()
    yield from model.named_buffers()
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in OWN:
                leaves = pytree.tree_leaves(value) if isinstance(value, list | tuple | dict) else [value]
                yield from ((f"{path}.{name}".lstrip("."), leaf) for leaf in leaves if isinstance(leaf, Tensor))


def unusual(value: Tensor) -> str:
    """What is unusual about a tensor, and what to do; empty for a plain one."""
    if nn.parameter.is_lazy(value):
        return "has no shape yet, because its layer is lazy; run the model once on an example first"
    if value.is_meta:
        return "is on the meta device, which holds shapes and no values; load the weights onto a device first"
    if value.is_quantized:
        return f"is quantised: {UNROUNDED}"
    if type(value).__name__ == "DTensor":
        return "is sharded over processes (DTensor); gather it first, with its full_tensor()"
    if type(value).__name__.startswith("SparseSemiStructured"):
        return "is sparse (semi-structured), which few operations support; make it dense first, with to_dense()"
    if value.is_nested:
        return "is a nested tensor, whose samples differ in shape; pad it to one shape, with to_padded_tensor"
    if is_packed(value):
        package = type(value).__module__.split(".")[0]
        return (
            f"is quantised ({type(value).__name__} of {package}), and its codes cannot be traced; pass the model from "
            f"before its quantisation, or, to measure the rounded weights, decode them: {_decoding(package)}"
        )
    if value.layout is not torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        return f"has the layout {layout}, which torch.export does not support; make it dense first, with to_dense()"
    return ""


def is_packed(value: Tensor) -> bool:
    """Whether a tensor holds codes of weights, which its own class decodes.

    Two forms are known: a tensor made of others that decodes itself (torchao, optimum-quanto), and a parameter of
    whole numbers of a class of its own, which its layer decodes (bitsandbytes).
    """
    if is_traceable_wrapper_subclass(value):
        return type(value).dequantize is not Tensor.dequantize
    whole = not (value.is_floating_point() or value.is_complex() or value.dtype is torch.bool)
    return whole and isinstance(value, nn.Parameter) and type(value) not in (nn.Parameter, nn.Buffer)


def _decoding(package: str) -> str:
    if package == "bitsandbytes":
        return "for a model of transformers, model.dequantize()"
    return "layer.weight = torch.nn.Parameter(layer.weight.dequantize())"


def check_tensors(values: Iterable[object], what: str) -> None:
    """Inputs must be plain tensors too."""
    for value in values:
        if isinstance(value, Tensor) and (reason := unusual(value)):
            raise InputError(f"{what} {reason}")


def _check_module(module: nn.Module, where: str, path: str) -> None:
    kinds = {kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.")}
    inner = f"model.{path}.module" if path else "model.module"
    if kinds & PARALLEL:
        raise InputError(f"{where} spreads a batch over devices, and is not the network itself; pass {inner}")
    if kinds & SHARDED:
        raise InputError(
            f"{where} shards its weights over processes; gather them with FullyShardedDataParallel.summon_full_params, "
            f"and pass {inner}"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"{where} is TorchScript (torch.jit.trace, script or load), which torch.export does not support; pass the "
            "torch.nn.Module that it was made from"
        )
    if type(module).__module__.startswith(QUANTIZED):
        raise InputError(f"{where} is quantised: {UNROUNDED}")
