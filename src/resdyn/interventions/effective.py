"""The weights that a forward pass uses as matrices, whatever computes them, and noise on them while it runs.

A weight may be a parameter, or computed from parameters in each pass: by a parametrisation, by a hook, by a mask, in
the layer's own forward. It is therefore identified where it is used, in the products of the pass: their operands that
depend on parameters and not on the input. Nothing is written to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from resdyn._torch import TorchDispatchMode, is_traceable_wrapper_subclass, pytree

PRODUCTS = {
    "mm",
    "bmm",
    "mv",
    "dot",
    "addmm",
    "addmv",
    "baddbmm",
    "addbmm",
    "matmul",
    "linear",
    "_trilinear",
    "_addmm_activation",
    "convolution",
    "_convolution",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cudnn_convolution",
    "mkldnn_convolution",
    "convolution_overrideable",
    "_grouped_mm",
    "mkldnn_rnn_layer",
    "_cudnn_rnn",
    "miopen_rnn",
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "_transformer_encoder_layer_fwd",
    "_native_multi_head_attention",
}
ADDENDS = {"addmm", "addmv", "baddbmm", "addbmm", "_addmm_activation"}  # their first operand is added
REARRANGING = {"clone", "_to_copy", "cat", "stack", "index_select", "constant_pad_nd"}
SHAPE_ONLY = {"zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full"}


@dataclass(frozen=True)
class Origin:
    """What the values in a storage derive from: the model's input (``moving``), or named tensors of the model.

    ``rearranged``: the named tensors are only moved within it. ``shape``, ``stride``, ``offset``: as it was created.
    """

    moving: bool
    names: frozenset[str] = frozenset()
    rearranged: bool = False
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0


@dataclass(frozen=True)
class Weight:
    """A matrix of the forward pass.

    Attributes:
        parameters: the names of the parameter that it is, or of those that it is computed from.
        computed: whether it is computed.
        value: the matrix.
    """

    parameters: tuple[str, ...]
    computed: bool
    value: Tensor

    @property
    def name(self) -> str:
        """The attribute that it is, such as ``layer.weight``, even if a parametrisation or a hook computes it."""
        if not self.computed:
            return self.parameters[0]
        paths = [_attribute(name) for name in self.parameters]
        modules = {path.rpartition(".")[0] for path in paths}
        common = _common_start([path.rpartition(".")[2] for path in paths]).rstrip("_")
        return ".".join(filter(None, (*modules, common))) if len(modules) == 1 and common else "+".join(paths)

    @property
    def layers(self) -> set[str]:
        """Paths of the modules that it belongs to."""
        return {_attribute(name).rpartition(".")[0] for name in self.parameters}


class WeightsInUse(TorchDispatchMode):
    """Follows one forward pass, records the weights that enter its products, and adds noise to given ones.

    After the pass ``weights`` holds them by key, and ``uses``, by name, the other operations in which values of the
    model of two dimensions or more met the input. ``noise``, by key, has the weight's shape. A parameter gets its noise
    where it is read, whatever reads it; a computed weight where a product does, except for its zeros (a mask).
    """

    def __init__(self, model: nn.Module, inputs: Any, noise: Mapping[Any, Tensor] | None = None) -> None:
        super().__init__()
        self.weights: dict[Any, Weight] = {}
        self.uses: dict[str, dict[str, None]] = {}
        self._noise = noise or {}
        self._noisy: dict[int, Tensor] = {}
        self._origins: dict[int, tuple[StorageWeakRef, Origin]] = {}
        self._parameters = [(names, value) for names, value in tied(model) if isinstance(value, nn.Parameter)]
        for names, value in tied(model):
            before = self._origin(value)
            known = names if before is None else {*names, *before.names}  # of one storage, at other offsets
            self._remember(value, Origin(False, frozenset(known), rearranged=True))
        for value in tensors_with_storage(inputs):
            self._remember(value, Origin(moving=True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = tensors_with_storage((args, kwargs))
        known = [origin for operand in operands if (origin := self._origin(operand)) is not None]
        if not known or _only_views(func):
            return func(*args, **kwargs)
        operation, moving = func.__name__.split(".")[0], any(origin.moving for origin in known)
        if moving:
            self._note(operation, operands)
        if self._noise:
            product = moving and operation in PRODUCTS
            args, kwargs = pytree.tree_map_only(
                Tensor, lambda operand: self._with_noise(operand, product), (args, kwargs)
            )
        result = func(*args, **kwargs)
        if operation not in SHAPE_ONLY:
            self._follow(func, operation, operands, known, result)
        return result

    def _note(self, operation: str, operands: list[Tensor]) -> None:
        """Record which values of the model meet the input in this operation, and how."""
        addend = operands[0] if operation in ADDENDS else None
        for operand in operands:
            origin = self._origin(operand)
            if origin is None or origin.moving or operand is addend or operand.dim() < _least_rank(operation):
                continue
            product = operation in PRODUCTS and (operand.is_floating_point() or operand.is_complex())
            weights = dict(self._weights_of(operand, origin)) if product else {}
            self.weights.update(weights)
            if not weights:
                for name in self._names_in(operand, origin):
                    self.uses.setdefault(name, {})[operation] = None

    def _weights_of(self, operand: Tensor, origin: Origin) -> Iterator[tuple[Any, Weight]]:
        read = self._names_in(operand, origin)
        own = [(names, value) for names, value in self._parameters if read & set(names)]
        if origin.rearranged:
            yield from ((names, Weight(names, False, value.detach())) for names, value in own)
        elif own:
            value = operand.as_strided(origin.shape, origin.stride, origin.offset)
            yield _key(origin), Weight(tuple(names[0] for names, _ in own), True, value)

    def _names_in(self, operand: Tensor, origin: Origin) -> frozenset[str]:
        """Which of several parameters in one piece of memory an operand reads."""
        here = [(names, value) for names, value in self._parameters if _address(value) == _address(operand)]
        apart = {name for names, value in here if not _overlap(value, operand) for name in names}
        return origin.names - apart

    def _with_noise(self, operand: Tensor, product: bool) -> Tensor:
        """The operand as it is read from its storage with noise, otherwise itself."""
        origin = self._origin(operand) if has_storage(operand) else None
        if origin is None or origin.moving:
            return operand
        address = _address(operand)
        parts = [part for part in self._parameters if part[0] in self._noise and _address(part[1]) == address]
        own = self._noise.get(_key(origin)) if product and not origin.rearranged else None
        if not parts and own is None:
            return operand
        if address not in self._noisy:
            self._noisy[address] = _flat(operand).clone()
            for names, value in parts:
                _at(self._noisy[address], value).add_(self._noise[names])
            if own is not None:
                weight = self._noisy[address].as_strided(origin.shape, origin.stride, origin.offset)
                weight.add_(torch.where(weight == 0, 0, own))
        read = _at(self._noisy[address], operand)
        return read.conj() if operand.is_conj() else read

    def _follow(self, func: Any, operation: str, operands: list[Tensor], known: list[Origin], result: Any) -> None:
        """Record what the results derive from."""
        moving = any(origin.moving for origin in known)
        names = frozenset[str]() if moving else frozenset().union(*(origin.names for origin in known))
        rearranged = operation in REARRANGING and all(origin.rearranged for origin in known)
        writes, read = _writes(func), {_address(operand) for operand in operands}
        for value in tensors_with_storage(result):
            if writes:
                self._noisy.pop(_address(value), None)
            if writes or _address(value) not in read:  # otherwise it is an operand in another shape
                self._remember(value if value._base is None else value._base, Origin(moving, names, rearranged))

    def _origin(self, value: Tensor) -> Origin | None:
        entry = self._origins.get(_address(value))
        return None if entry is None else entry[1]

    def _remember(self, value: Tensor, origin: Origin) -> None:
        if has_storage(value):
            shape, stride, offset = tuple(value.shape), value.stride(), int(value.storage_offset())
            placed = replace(origin, shape=shape, stride=stride, offset=offset)
            # A weak reference prevents reuse of the address without keeping the values.
            self._origins[_address(value)] = (StorageWeakRef(value.untyped_storage()), placed)


def tied(model: nn.Module) -> list[tuple[tuple[str, ...], Tensor]]:
    """The tensors of a model, parameters first, each once with all its names: those of the same memory are tied."""
    named: list[tuple[str, Tensor]] = [*model.named_parameters(remove_duplicate=False)]
    named += model.named_buffers(remove_duplicate=False)
    for path, module in model.named_modules():
        named += [(f"{path}.{name}".lstrip("."), x) for name, x in vars(module).items() if isinstance(x, Tensor)]
    groups: dict[Any, tuple[list[str], Tensor]] = {}
    for name, value in named:
        if has_storage(value) and value.numel():
            groups.setdefault((_address(value), value.storage_offset(), value.numel()), ([], value))[0].append(name)
    return [(tuple(names), value) for names, value in groups.values()]


def has_storage(value: Tensor) -> bool:
    """Whether a tensor is a view of one piece of memory."""
    plain = not (value.is_nested or value.is_quantized or is_traceable_wrapper_subclass(value))
    return plain and value.layout is torch.strided


def tensors_with_storage(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor) and has_storage(leaf)]


def _common_start(words: list[str]) -> str:
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*words)))


def _attribute(name: str) -> str:
    """``a.weight`` for ``a.parametrizations.weight.original0``, for ``a.weight_orig`` under a mask, and for itself."""
    module, separator, rest = name.partition("parametrizations.")
    return module + rest.split(".")[0] if separator else name.removesuffix("_orig")


def _least_rank(operation: str) -> int:
    """Least dimension of a matrix operand: biases have one dimension, but so has what a vector is multiplied by."""
    return 1 if operation in ("mv", "dot", "matmul") else 2


def _key(origin: Origin) -> Any:
    """The key of a computed weight, the same in every pass."""
    return origin.names, origin.shape


def _address(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _flat(value: Tensor) -> Tensor:
    """All of the memory that a tensor is a view of."""
    return (
        value.detach().resolve_conj().as_strided((value.untyped_storage().nbytes() // value.element_size(),), (1,), 0)
    )


def _at(flat: Tensor, value: Tensor) -> Tensor:
    return flat.as_strided(value.shape, value.stride(), value.storage_offset())


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two views of one piece of memory may share an element, by the ends of both."""
    ends = [x.storage_offset() + sum((n - 1) * step for n, step in zip(x.shape, x.stride())) for x in (a, b)]
    return a.storage_offset() <= ends[1] and b.storage_offset() <= ends[0]


def _writes(func: Any) -> bool:
    infos = [argument.alias_info for argument in func._schema.arguments]
    return any(info is not None and info.is_write for info in infos)


def _only_views(func: Any) -> bool:
    return not _writes(func) and any(value.alias_info is not None for value in func._schema.returns)
