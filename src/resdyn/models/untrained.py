"""The untrained twin of a model: what a measurement finds where nothing was learned."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.models.loading import LoadedModel
from resdyn.models.weights import weights_hash

NOTE = (
    "An untrained twin: the weights are drawn again (seed {seed}) as each layer initialises itself; running means and "
    "variances are those of the start."
)


def untrained_twin(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with new random weights, as its layers initialise themselves; `model` is not touched.

    A Hugging Face model is built again from its configuration. In any other, every module that holds parameters has to
    have the method `reset_parameters`, as those of PyTorch do; an outer module's is called after those inside it.
    Layers that keep running statistics forget them.

    Args:
        model: Any module.
        seed: Of the weights; the generators of PyTorch are as before afterwards.

    Returns:
        A new module in eval mode, in the dtype and on the device of `model`.

    Raises:
        InputError: Parameters that nothing initialises, or that would be the same afterwards; it names them.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(3, 2)
        >>> twin = untrained_twin(model, seed=1)
        >>> bool((twin.weight == model.weight).any())
        False
    """
    checks.instance("model", model, nn.Module, "a torch.nn.Module")
    seed = checks.seed(seed)
    twin = copy.deepcopy(model)
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        left = list(_initialised(twin, ""))
    if left:
        raise InputError(
            f"no untrained twin can be made: nothing initialises {_named(left)}; give the module that holds "
            f"{'it' if len(left) == 1 else 'them'} a method reset_parameters(), or capture a new model yourself"
        )
    kept = list(_kept(model, twin))
    if kept:
        raise InputError(
            f"no untrained twin can be made: after reset_parameters() {_named(kept)} "
            f"{'is' if len(kept) == 1 else 'are'} as before; draw the weights there, or capture a new model yourself"
        )
    return twin.eval()


def untrained_model(loaded: LoadedModel, seed: int = 0) -> LoadedModel:
    """The twin of a loaded model, with its preprocessing and a note.

    Args:
        loaded: By `load_model`.
        seed: Of the weights.

    Returns:
        A loaded model of the same name.

    Raises:
        InputError: As `untrained_twin`.
    """
    twin = untrained_twin(loaded.model, seed)
    return replace(loaded, model=twin, weights_hash=weights_hash(twin), notes=(NOTE.format(seed=seed),))


def _initialised(module: nn.Module, path: str) -> Iterator[str]:
    """Draw the weights of a module and of all inside it; yields the parameters that nothing initialises."""
    if _has_recipe(module):
        _fill(module)
        return
    left: list[str] = []
    for name, child in module.named_children():
        left += _initialised(child, f"{path}{name}.")
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)  # attention's
    if callable(reset) and parametrize.is_parametrized(module):
        _reset_parametrized(module)
    elif callable(reset):
        reset()
    else:
        yield from left
        yield from (f"{path}{name}" for name, value in module.named_parameters(recurse=False) if value.numel())


def _reset_parametrized(module: nn.Module) -> None:
    """Weight normalisation and its like: the layer without it is drawn, and its weights are taken apart again."""
    base: type[nn.Module] = type(module).__bases__[0]
    plain, names = base.__new__(base), list(module.parametrizations)  # type: ignore[arg-type]
    values = dict(module.named_parameters(recurse=False)) | {name: getattr(module, name) for name in names}
    kept = {name: nn.Parameter(value.detach().clone()) for name, value in values.items()}
    plain.__dict__ = module.__dict__ | {"_parameters": kept, "_modules": {}}
    plain.reset_parameters()  # type: ignore[operator]
    for name, value in kept.items():
        try:
            setattr(module, name, value.detach() if name in names else value)
        except (NotImplementedError, ValueError):  # it cannot be taken apart: noticed, since it is as before
            continue


def _has_recipe(module: nn.Module) -> bool:
    """Whether a module is one of `transformers`: it is built from a configuration alone."""
    return all(hasattr(module, name) for name in ("config", "_init_weights", "init_weights"))


def _fill(module: nn.Module) -> None:
    """A model of `transformers` is made from its configuration; what is frozen or cast stays so.

    The configuration does not say which parts, such as a pooler, a model was made without.
    """
    fresh, own = type(module)(copy.deepcopy(module.config)).state_dict(), module.state_dict()  # type: ignore[arg-type]
    module.load_state_dict({name: value for name, value in fresh.items() if name in own})


def _kept(model: nn.Module, twin: nn.Module) -> Iterator[str]:
    """Parameters that have the values of before, other than constants such as a norm's ones."""
    own: dict[str, Tensor] = dict(twin.named_parameters())
    for name, value in model.named_parameters():
        if value.numel() > 1 and torch.equal(value, own[name]) and not bool((value == value.flatten()[0]).all()):
            yield name


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
