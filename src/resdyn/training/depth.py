"""Lists of blocks in a network, the gap between the residuals of their last two, and taking the last one off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from resdyn._torch import pytree
from resdyn.errors import ComputationError, InputError
from resdyn.stream import find_stream
from resdyn.stream.isolation import eval_mode

LISTS = (nn.ModuleList, nn.Sequential)


def block_lists(model: nn.Module, *example: Any, **named: Any) -> tuple[str, ...]:
    """Paths of the `ModuleList`s and `Sequential`s whose elements are the model's residual blocks, in order.

    By dataflow (`find_stream`): of the lists that hold a block's branch, the innermost with it as one element.
    Errors: those of `find_stream`; InputError where no block is an element of a list.
    """
    with eval_mode(model):
        paths = [_list_of(model, block.path) for block in find_stream(model, *example, **named)]
    found = tuple(dict.fromkeys(path for path in paths if path is not None))
    if not found:
        raise InputError(
            f"no residual block of {type(model).__name__} is in a ModuleList or Sequential, so none can be removed"
        )
    return found


def check_lists(model: nn.Module, paths: Sequence[str]) -> tuple[str, ...]:
    """The same paths, if each names a list of at least one module. Errors: InputError otherwise."""
    for path in paths:
        try:
            module = model.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"got the list of blocks '{path}', but the model has no such module") from error
        if not isinstance(module, LISTS) or not len(module):
            raise InputError(f"got '{path}', a {type(module).__name__}, expected a ModuleList or Sequential of blocks")
    return tuple(paths)


def depths(model: nn.Module, paths: Iterable[str]) -> dict[str, int]:
    """How many blocks each list holds."""
    return {path: len(_modules(model, path)) for path in paths}


def residual_gaps(model: nn.Module, paths: Iterable[str], inputs: tuple[Any, ...], **named: Any) -> dict[str, float]:
    """mean |r_n - r_(n-1)| over samples and neurons for the last two blocks of each list, r = output - input.

    A list whose last two blocks do not both keep the shape of their state, or that has only one, has no such gap and
    is left out: its last block could not be removed by this rule. The model is evaluated once, in eval mode, on
    `inputs`. Source: Lagzi (2021), section 7, whose l1 norm is "for each neuron on average".
    """
    residuals = _residuals(model, paths, inputs, named)
    gaps = {}
    for path, last_two in residuals.items():
        before, last = last_two if len(last_two) == 2 else (None, None)
        if before is not None and last is not None and before.shape == last.shape:
            gaps[path] = float((last - before).abs().mean())
    return gaps


def remove_last(model: nn.Module, path: str, optimizer: Any | None = None) -> nn.Module:
    """Take the last block off a list, and its parameters out of the optimizer; returns the block.

    Names of all that stays, groups of parameters (also empty ones, which a scheduler counts) and their learning rates
    stay as they were. Parameters that the model still uses elsewhere (shared weights) are kept. Errors: InputError
    for a list of one.
    """
    modules = _modules(model, path)
    if len(modules) < 2:
        raise InputError(f"'{path}' holds {len(modules)} block, and the last one is never removed")
    removed: nn.Module = modules.pop(list(modules)[-1])
    if optimizer is not None:
        used = {id(p) for p in model.parameters()}
        _forget(optimizer, {id(p): p for p in removed.parameters() if id(p) not in used})
    return removed


def shrink(model: nn.Module, wanted: Mapping[str, int], optimizer: Any | None = None) -> None:
    """Remove last blocks until each list holds as many as `wanted` says. Errors: InputError where it holds fewer."""
    for path, depth in wanted.items():
        have = len(_modules(model, path))
        if not 1 <= depth <= have:
            raise InputError(f"got depth {depth} for '{path}', which holds {have} blocks")
        for _ in range(have - depth):
            remove_last(model, path, optimizer)


def depths_in(model: nn.Module, tensors: Mapping[str, Any]) -> dict[str, int]:
    """Depths of the lists of which `tensors`, a state dict, holds less than the model: the last elements are absent."""
    shorter = {}
    for path, module in model.named_modules():
        if not isinstance(module, LISTS):
            continue
        present = [_holds(tensors, f"{path}.{key}." if path else f"{key}.", m) for key, m in module._modules.items()]
        depth = sum(present)
        if 0 < depth < len(present) and all(present[:depth]):
            shorter[path] = depth
    return shorter


def follow_depth_on_load(model: nn.Module) -> None:
    """Make `model.load_state_dict` shrink the model first where what it is given comes from a shrunken one."""
    model.register_load_state_dict_pre_hook(_shrink_to)


def _shrink_to(model: nn.Module, tensors: Mapping[str, Any], prefix: str, *_: Any) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    shrink(model, depths_in(model, own))


def _holds(tensors: Mapping[str, Any], prefix: str, module: nn.Module) -> bool:
    """Whether a state dict has something of an element; one without state is always there."""
    return not module.state_dict() or any(name.startswith(prefix) for name in tensors)


def _list_of(model: nn.Module, block: str) -> str | None:
    """The innermost list that holds the module path `block` as, or within, one element."""
    parts = [part.split("@")[0] for part in block.split(".")]
    for end in range(len(parts) - 1, -1, -1):
        path = ".".join(parts[:end])
        if isinstance(model.get_submodule(path), LISTS):
            return path
    return None


def _modules(model: nn.Module, path: str) -> dict[str, nn.Module]:
    found: dict[str, Any] = model.get_submodule(path)._modules
    return found


def _residuals(
    model: nn.Module, paths: Iterable[str], inputs: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, list[Tensor | None]]:
    """Of each list the residuals of the last two blocks, None for one that changes the shape."""
    found: dict[str, list[Tensor | None]] = {path: [] for path in paths}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            before, after = _first_tensor([args, list(kwargs.values())]), _first_tensor(output)
            same = before is not None and after is not None and before.shape == after.shape
            found[path] = [*found[path][-1:], (after - before).detach() if same else None]  # type: ignore[operator]

        return hook

    with ExitStack() as stack, eval_mode(model), torch.no_grad():
        for path in found:
            for block in dict.fromkeys(_modules(model, path).values()):  # one that occurs there often is called often
                handle = block.register_forward_hook(keep(path), with_kwargs=True)
                stack.callback(handle.remove)
        model(*inputs, **named)
    unseen = [path for path, residuals in found.items() if not residuals]
    if unseen:
        raise ComputationError(f"the model does not run the blocks of {', '.join(unseen)} on its way to the output")
    return found


def _first_tensor(value: Any) -> Tensor | None:
    leaves = pytree.tree_leaves(value)
    return next((leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)


def _forget(optimizer: Any, gone: dict[int, Tensor]) -> None:
    for group in optimizer.param_groups:
        kept = [n for n, parameter in enumerate(group["params"]) if id(parameter) not in gone]
        for entry in ("params", "param_names"):
            if entry in group:
                group[entry] = [group[entry][n] for n in kept]
    for parameter in gone.values():
        optimizer.state.pop(parameter, None)
