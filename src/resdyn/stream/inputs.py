"""Checks of what a stream is made from: models in eval mode with finite weights, and inputs like the example."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from resdyn._numerics import plain_arithmetic
from resdyn._torch import BatchNorm, pytree
from resdyn.errors import InputError
from resdyn.stream.arguments import check_shared
from resdyn.stream.failures import first_line
from resdyn.stream.graph import silence_logs, tensors_of
from resdyn.stream.preserve import preserve_state
from resdyn.stream.refusals import check_tensors, plain_model

NUMBERS = (bool, int, float, complex, torch.dtype, torch.device, torch.layout, Enum, slice)
PLAIN = (Tensor, str, bytes, type(None), *NUMBERS)
BATCH_NORMS = (BatchNorm,)


def check_model(model: nn.Module) -> nn.Module:
    """The model itself (see `plain_model`), which must be in eval mode with finite weights."""
    model = plain_model(model)
    check_eval(model)
    check_weights(model)
    return model


def check_eval(model: nn.Module) -> None:
    """The model must be in eval mode, and without batch norms that mix samples even there."""
    for name, module in model.named_modules():
        where = f"{name} ({type(module).__name__})" if name else type(model).__name__
        if isinstance(module, BATCH_NORMS) and module.running_mean is None:
            raise InputError(
                f"{where} keeps no running statistics, so it mixes the samples of a batch even in eval mode; a block "
                "is not a function of one sample's state there"
            )
        if module.training and (isinstance(module, BATCH_NORMS) or name == ""):
            raise InputError(
                f"{where} is in training mode, where batch norm mixes the samples of a batch and dropout is random; "
                "call model.eval() first"
            )


def check_weights(model: nn.Module) -> None:
    """Weights must be finite, and created outside inference mode; a buffer may hold infinities, as masks do."""
    parameters = {name for name, _ in model.named_parameters()}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_inference():
            raise InputError(
                f"weight {name!r} was created under torch.inference_mode, where nothing has a derivative; load the "
                "model outside of it"
            )
        if not (value.is_floating_point() or value.is_complex()):
            continue
        value = value.float() if value.dtype.itemsize == 1 else value  # float8 does not support isfinite
        if math.isfinite(abs(value.detach().sum().item())):  # so is every summand, and a sum costs a tenth
            continue
        wrong = ~torch.isfinite(value) if name in parameters else torch.isnan(value)
        if count := int(wrong.sum()):
            raise InputError(
                f"weight {name!r} holds {count} NaN or infinite values of {value.numel()}; nothing measured on this "
                "model would be meaningful: load other weights"
            )


def is_one_mapping(args: tuple[Any, ...]) -> bool:
    """Whether a call has one positional argument, which holds others by name, as a tokenizer's batch does."""
    return len(args) == 1 and isinstance(args[0], Mapping)


def by_names(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call; one mapping is spread, as in (model, **batch), where its keys are parameters' names.

    A model that takes the mapping itself, and runs on it, gets it as a dict.
    """
    if not is_one_mapping(args):
        return args, kwargs
    batch = dict(args[0])
    parameters = inspect.signature(model.forward).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    every = any(p.kind is p.VAR_KEYWORD for p in parameters)
    fits = all(isinstance(name, str) and (name in named or every) for name in batch) and not set(batch) & set(kwargs)
    if not fits or _failure(model, ((batch,), kwargs)) is None:
        return (batch,), kwargs
    return (), {**batch, **kwargs}


def check_runs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], signature: Signature) -> list[Tensor]:
    """The tensors that the model returns for the first sample; it must run on it, or its own message is passed on."""
    first = signature.one_sample(args, kwargs)
    try:
        return returned(model, *first)
    except Exception as raised:
        error = raised
    reason = f"{type(error).__name__}: {first_line(error)}"
    if _failure(model, signature.several(args, kwargs)) is None:
        raise InputError(
            f"{type(model).__name__} runs on several samples, but not on one alone ({reason}); a state belongs to one "
            "sample, so the model must run on one: a norm over a single value, for example, always gives 0, and can "
            "be left out or given a larger input"
        ) from error
    tensors = [leaf for leaf in pytree.tree_leaves(first) if isinstance(leaf, Tensor)]
    given = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
    raise InputError(f"{type(model).__name__} does not run on the example input ({given}): {reason}") from error


def returned(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that one pass of the model returns, whatever it does to its inputs and to itself."""
    copied, named = copies((args, kwargs))
    with torch.no_grad(), silence_logs(), plain_arithmetic(), preserve_state(model):
        return [value.detach().clone() for value in tensors_of(model(*copied, **named))]


def _failure(model: nn.Module, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Exception | None:
    """What a pass of the model raises."""
    try:
        returned(model, *arguments)
    except Exception as error:
        return error
    return None


def usable(value: Tensor) -> Tensor:
    """The same values, detached; those created under inference_mode are copied out of it."""
    return value.clone() if value.is_inference() else value.detach()


def copies(arguments: Any) -> Any:
    """The same arguments with every tensor detached and cloned: a model may write into its inputs."""
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, arguments)


def _check_kinds(leaves: list[Any]) -> None:
    """Tensors can be split into samples, and numbers are part of the graph; nothing else can be an input."""
    other = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, PLAIN)]
    if any(isinstance(leaf, Mapping) for leaf in leaves):
        raise InputError(
            f"got a {other[0]} as one argument of several, or with entries that are not arguments of the model; pass "
            "those that are by their names, as in (model, **batch)"
        )
    if other:
        raise InputError(
            f"got an argument of type {other[0]}, expected tensors, numbers, words or None, which can be given for one "
            "sample: leave it out (a cache of keys and values: pass all tokens at once instead), or fix it in a module "
            "around the model"
        )


def _own_of_samples(args: tuple[Any, ...], kwargs: dict[str, Any], shared: Sequence[str]) -> list[bool]:
    """Of each flat argument, whether it may have a dimension of samples."""
    named = [[name not in shared] * len(pytree.tree_leaves(value)) for name, value in kwargs.items()]
    return [True] * len(pytree.tree_leaves(args)) + [own for owns in named for own in owns]


@dataclass(frozen=True)
class Signature:
    """Shapes and dtypes of a model's inputs, which of them carry the batch dimension, and all other arguments.

    ``size`` is the number of samples in the example.
    """

    shapes: tuple[tuple[int, ...] | None, ...]
    dtypes: tuple[torch.dtype | None, ...]
    size: int
    batched: tuple[bool, ...]
    structure: pytree.TreeSpec
    others: tuple[Any, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], shared: Sequence[str] = ()) -> Signature:
        """The signature of one call. shared: names of arguments that have no dimension of samples."""
        check_shared(shared, kwargs)
        leaves, structure = pytree.tree_flatten((args, kwargs))
        check_tensors(leaves, "an example input")
        _check_kinds(leaves)
        own = _own_of_samples(args, kwargs, shared)
        tensors = [leaf for leaf, single in zip(leaves, own, strict=True) if isinstance(leaf, Tensor) and single]
        if not tensors or tensors[0].dim() == 0 or len(tensors[0]) == 0:
            raise InputError(
                "an example input is needed: a tensor with a leading batch dimension of at least one sample, "
                f"got {[tuple(t.shape) for t in tensors] or 'no tensor at all'}"
            )
        size = len(tensors[0])
        return cls(
            shapes=tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else None for leaf in leaves),
            dtypes=tuple(leaf.dtype if isinstance(leaf, Tensor) else None for leaf in leaves),
            size=size,
            batched=tuple(
                isinstance(leaf, Tensor) and single and leaf.dim() > 0 and len(leaf) == size
                for leaf, single in zip(leaves, own, strict=True)
            ),
            structure=structure,
            others=tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves),
        )

    def one_sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with the first sample alone."""
        leaves = pytree.tree_leaves((args, kwargs))
        first = [leaf[:1] if batched else leaf for leaf, batched in zip(copies(leaves), self.batched, strict=True)]
        result: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_unflatten(first, self.structure)
        return result

    def several(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments, with a lone sample given twice."""
        leaves = copies(pytree.tree_leaves((args, kwargs)))
        if self.size == 1:
            leaves = [torch.cat([x, x]) if many else x for x, many in zip(leaves, self.batched, strict=True)]
        result: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_unflatten(leaves, self.structure)
        return result

    def spread(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call; a batch in one mapping is arranged as the example was."""
        if is_one_mapping(args) and pytree.tree_structure((args, kwargs)) != self.structure:
            batch = dict(args[0])
            for arranged in (((batch,), kwargs), ((), {**batch, **kwargs})):
                if pytree.tree_structure(arranged) == self.structure:
                    return arranged
        return args, kwargs

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], int]:
        """Flat inputs and the number of samples in them, or an error that says what does not fit."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        leaves = [usable(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        if structure != self.structure:
            raise InputError(
                f"the stream was found with arguments {self.structure}, got {structure}; pass the same arguments"
            )
        sizes = set()
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and self.shapes[index] is not None:
                sizes |= self._check_one(index, leaf)
            elif isinstance(leaf, Tensor) or self.shapes[index] is not None or leaf != self.others[index]:
                had = self.others[index] if self.shapes[index] is None else f"a tensor of shape {self.shapes[index]}"
                got = f"a tensor of shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else repr(leaf)
                raise InputError(
                    f"argument {index} is {got}, but the stream was found with {had}, which is part of its graph; "
                    "find a new stream for other arguments"
                )
        if len(sizes - {1}) > 1:
            raise InputError(f"the inputs hold different numbers of samples: {sorted(sizes)}; give each the same")
        return leaves, max(sizes)

    def _check_one(self, index: int, leaf: Tensor) -> set[int]:
        shape = self.shapes[index]
        assert shape is not None
        rest = shape[1:] if self.batched[index] else shape
        got = tuple(leaf.shape[1:]) if self.batched[index] else tuple(leaf.shape)
        if got != rest or leaf.dim() != len(shape):
            wanted = f"(N, {', '.join(map(str, rest))})" if self.batched[index] else str(shape)
            raise InputError(
                f"input {index} has shape {tuple(leaf.shape)}, expected {wanted} as in the example that the stream "
                "was found with; find a new stream for another input size"
            )
        if leaf.dtype != self.dtypes[index]:
            raise InputError(
                f"input {index} has dtype {leaf.dtype}, expected {self.dtypes[index]}; convert it with .to(...)"
            )
        if self.batched[index] and len(leaf) == 0:
            raise InputError(f"input {index} holds no samples (shape {tuple(leaf.shape)}); pass at least one")
        return {len(leaf)} if self.batched[index] else {1}
