"""The functional graph of a model: exported once at batch size one, evaluated anywhere in between.

The exported program is the only description of the model that discovery and blocks look at. In-place
operations are gone from it, so no later operation can rewrite a value that was read earlier.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from resdyn.errors import ComputationError, InputError

aten = torch.ops.aten

ASSERTIONS = ("_assert", "sym_constrain", "_assert_tensor_metadata", "_assert_scalar", "_assert_async")


def batch_norm_affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, rank: int
) -> tuple[Tensor, Tensor]:
    """(scale, shift) of a batch norm in eval mode, shaped to multiply an input of `rank` dimensions."""
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    shift = shift if bias is None else shift + bias
    per_channel = [1, -1] + [1] * (rank - 2)
    return scale.reshape(per_channel), shift.reshape(per_channel)


def frozen_batch_norm(x: Tensor, affine: tuple[Tensor, Tensor]) -> tuple[Tensor]:
    """Batch norm in eval mode as the affine map that it is: cheap forward- and reverse-mode derivatives."""
    scale, shift = affine
    return (x * scale + shift,)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`view` that also takes the strides which tangents can have."""
    return x.reshape(shape)


def plain_clone(x: Tensor, **_: Any) -> Tensor:
    """`clone` without a memory format, which batched tangents could refuse."""
    return x.clone()


REWRITES: dict[Any, Callable[..., Any]] = {
    aten.view.default: reshape,
    aten._unsafe_view.default: reshape,
    aten.clone.default: plain_clone,
}


FUSED_SUMS: dict[Any, Any] = {
    aten.addmm.default: aten.mm.default,
    aten.baddbmm.default: aten.bmm.default,
    aten.addcmul.default: aten.mul.Tensor,
    aten.addcdiv.default: aten.div.Tensor,
    aten.lerp.Tensor: aten.mul.Tensor,
    aten.lerp.Scalar: aten.mul.Tensor,
}


@dataclass(frozen=True)
class DataGraph:
    """A model's functional graph, the names behind its leaves, and what it was exported with.

    `inputs` are the user-input placeholders in the order of the flattened example; `outputs` the tensors
    that the model returns. `parameters` maps a placeholder to the dotted name of a parameter or buffer:
    values are read from the live model at each evaluation, so that a network in training is seen as it is.
    """

    model: nn.Module
    module: fx.GraphModule
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    parameters: Mapping[fx.Node, str]
    constants: Mapping[fx.Node, Any]
    example: tuple[Any, ...]

    def leaf(self, node: fx.Node) -> Any:
        """The value of a placeholder or attribute that no input reaches."""
        if node in self.parameters:
            return attrgetter(self.parameters[node])(self.model).detach()
        if node in self.constants:
            return self.constants[node]
        return attrgetter(str(node.target))(self.module)


def export_graph(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DataGraph:
    """Export `model` at one sample and make it functional."""
    program = _export(model, args, kwargs)
    module = program.graph_module
    by_name = {node.name: node for node in module.graph.nodes}
    inputs: list[fx.Node] = []
    parameters: dict[fx.Node, str] = {}
    constants: dict[fx.Node, Any] = {}
    for spec in program.graph_signature.input_specs:
        node = by_name[spec.arg.name]
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(node)
        elif _is_live(model, spec.target):
            parameters[node] = str(spec.target)
        else:
            constants[node] = _stored(program, spec.target)
    outputs = tuple(
        by_name[spec.arg.name]
        for spec in program.graph_signature.output_specs
        if spec.kind is OutputKind.USER_OUTPUT and getattr(spec.arg, "name", None) in by_name
    )
    rewrite(module.graph, {*parameters, *constants})
    example = tuple(torch.utils._pytree.tree_leaves((args, kwargs)))
    if len(example) != len(inputs):
        raise ComputationError(
            f"the exported model takes {len(inputs)} inputs, the example holds {len(example)}; "
            "pass every input as a tensor, a number or None"
        )
    return DataGraph(model, module, tuple(inputs), outputs, parameters, constants, example)


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        # Fused recurrent kernels have no forward-mode derivative; without them export writes plain operations.
        with unchanged(model), quiet(), torch.no_grad(), sdpa_math(), torch.backends.mkldnn.flags(enabled=False):
            program = torch.export.export(model, args, kwargs, strict=False)
            return program.run_decompositions({})
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ComputationError(
            f"{type(model).__name__} could not be exported as a graph ({type(error).__name__}: {reason}). Check "
            "that the model runs on the example input; control flow that depends on values cannot be followed"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch.export says about itself; errors still come through."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo what a forward pass leaves behind in the model: counters, caches, buffers."""
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def sdpa_math() -> Any:
    """Attention by matrix products: the fused kernels have no forward-mode derivative."""
    return torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH])


def _is_live(model: nn.Module, name: str | None) -> bool:
    try:
        return isinstance(attrgetter(str(name))(model), Tensor)
    except AttributeError:
        return False


def _stored(program: torch.export.ExportedProgram, name: str | None) -> Any:
    for table in (program.constants, program.state_dict):
        if name in table:
            return table[str(name)]
    return None


def rewrite(graph: fx.Graph, fixed: Collection[fx.Node]) -> None:
    """Replace what derivatives cannot go through, write fused sums as sums, and drop assertions.

    A fused sum whose first term is `fixed` (a bias) stays as it is.
    """
    for node in list(graph.nodes):
        if node.target in FUSED_SUMS and node.args[0] not in fixed:
            _write_out_sum(graph, node)
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in REWRITES:
            node.target = REWRITES[node.target]
        elif node.target is aten._native_batch_norm_legit_no_training.default:
            _freeze_batch_norm(graph, node)
        elif not node.users and any(mark in str(node.target) for mark in ASSERTIONS):
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _write_out_sum(graph: fx.Graph, node: fx.Node) -> None:
    """h + something, where an operation hides it: addmm, baddbmm, addcmul, addcdiv, lerp on a computed h."""
    inner = FUSED_SUMS[node.target]
    h, first, second = node.args[:3]
    options = dict(node.kwargs)
    if set(options) - {"value"}:
        return

    def call(target: Any, *args: Any) -> fx.Node:
        made = graph.call_function(target, args)
        made.meta.update(node.meta)
        return made

    with graph.inserting_before(node):
        if node.target in (aten.lerp.Tensor, aten.lerp.Scalar):
            added = call(aten.mul.Tensor, call(aten.sub.Tensor, first, h), second)
        else:
            added = call(inner, first, second)
        if options.get("value", 1) != 1:
            added = call(aten.mul.Tensor, added, options["value"])
    node.target, node.args, node.kwargs = aten.add.Tensor, (h, added), {}


def _freeze_batch_norm(graph: fx.Graph, node: fx.Node) -> None:
    """Two nodes for one: the affine coefficients, which no state reaches, and their application."""
    x, weight, bias, mean, var, _, eps = node.args
    assert isinstance(x, fx.Node)
    with graph.inserting_before(node):
        affine = graph.call_function(batch_norm_affine, (weight, bias, mean, var, eps, x.meta["val"].dim()))
        affine.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
    node.target, node.args = frozen_batch_norm, (x, affine)


def graph_fingerprint(graph: DataGraph) -> str:
    """sha256 over the code of a graph, its constants and the live tensors that it reads."""
    digest = hashlib.sha256(graph.module.code.encode())
    for node in graph.module.graph.nodes:
        if node.op == "placeholder" and node not in graph.inputs:
            value = graph.leaf(node)
            digest.update(node.name.encode())
            if isinstance(value, Tensor):
                flat = value.detach().cpu().contiguous()
                digest.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
                digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
            else:
                digest.update(repr(value).encode())
    for value in graph.example:
        digest.update(b"" if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()


def tensor_of(node: fx.Node) -> Tensor | None:
    """The fake tensor that export recorded for a node, if its value is one tensor."""
    value = node.meta.get("val")
    return value if isinstance(value, Tensor) else None


def is_floating(node: fx.Node) -> bool:
    """Whether a node carries floating-point or complex values (alone, or in a tuple of results)."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(item, Tensor) and (item.is_floating_point() or item.is_complex()) for item in values)


class Evaluation:
    """Values of the nodes that do not depend on the cut point, each computed once and only when asked for."""

    def __init__(self, graph: DataGraph, inputs: Sequence[Any] | None) -> None:
        self._graph = graph
        self._values: dict[fx.Node, Any] = {}
        if inputs is not None:
            self._values.update(zip(graph.inputs, inputs, strict=True))

    def __call__(self, node: fx.Node) -> Any:
        pending = [node]
        while pending:
            current = pending[-1]
            missing = [n for n in current.all_input_nodes if n not in self._values and current not in self._values]
            if missing:
                pending.extend(missing)
            else:
                pending.pop()
                if current not in self._values:
                    self._values[current] = self._compute(current)
        return self._values[node]

    def _compute(self, node: fx.Node) -> Any:
        if node.op != "call_function":
            if node in self._graph.inputs:
                raise InputError(
                    f"this block also takes the model's input {node.name!r}, so it cannot be evaluated from its "
                    "state alone; pass the States that stream.states(...) returned instead of a bare tensor"
                )
            return self._graph.leaf(node)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self._values[n])
        with torch.no_grad(), sdpa_math():
            return node.target(*args, **kwargs)  # type: ignore[operator]


class Cut:
    """The part of a graph between `sources` and `targets`, as a function of the values of the sources.

    Everything that the targets need and the sources do not reach (weights, masks, rotary tables) is a leaf;
    `bind` computes the leaves once and returns the function with them in place.
    """

    def __init__(self, graph: DataGraph, sources: Sequence[fx.Node], targets: Sequence[fx.Node]) -> None:
        self.graph = graph
        self.sources = tuple(sources)
        self.targets = tuple(targets)
        self.nodes = between(graph, sources, targets)
        inside = set(self.nodes) | set(sources)
        operands = [n for node in self.nodes for n in node.all_input_nodes] + list(targets)
        self.leaves = tuple(dict.fromkeys(n for n in operands if n not in inside))
        self._function = self._build()

    def _build(self) -> fx.GraphModule:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for index, node in enumerate((*self.sources, *self.leaves)):
            copies[node] = graph.placeholder(f"value_{index}")
        for node in self.nodes:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        graph.output(tuple(copies[target] for target in self.targets))
        return fx.GraphModule(nn.Module(), graph)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Dotted names of the model's parameters and buffers that the cut reads."""
        behind = reach(self.leaves, lambda node: node.all_input_nodes)
        return tuple(name for node, name in self.graph.parameters.items() if node in behind)

    @property
    def numel(self) -> int:
        """Elements of all values inside: a bound on what one evaluation keeps for a derivative."""
        return sum(t.numel() for t in (tensor_of(node) for node in self.nodes) if t is not None)

    def constants(self, evaluation: Evaluation) -> tuple[Any, ...]:
        """Values of the leaves."""
        return tuple(evaluation(leaf) for leaf in self.leaves)

    def __call__(self, *values: Any) -> tuple[Tensor, ...]:
        """Values of the targets from those of the sources and, after them, of the leaves."""
        result: tuple[Tensor, ...] = self._function(*values)
        return result

    def bind(self, evaluation: Evaluation) -> Callable[..., tuple[Tensor, ...]]:
        """The cut as a function of its sources alone, leaves evaluated now."""
        leaves = self.constants(evaluation)
        return lambda *values: self(*values, *leaves)


def between(graph: DataGraph, sources: Sequence[fx.Node], targets: Sequence[fx.Node]) -> list[fx.Node]:
    """Nodes on a path from the sources to the targets, in graph order, sources left out."""
    downstream = reach(sources, lambda node: node.users)
    upstream = reach(targets, lambda node: node.all_input_nodes, stop=set(sources))
    inside = (downstream & upstream) - set(sources)
    return [node for node in graph.module.graph.nodes if node in inside and node.op == "call_function"]


def reach(
    start: Iterable[fx.Node],
    neighbours: Callable[[fx.Node], Iterable[fx.Node]],
    stop: set[fx.Node] | frozenset[fx.Node] = frozenset(),
) -> set[fx.Node]:
    """All nodes that can be reached from `start`; paths end at `stop`."""
    seen = set(start)
    pending = list(seen)
    while pending:
        node = pending.pop()
        if node in stop:
            continue
        for neighbour in neighbours(node):
            if neighbour not in seen:
                seen.add(neighbour)
                pending.append(neighbour)
    return seen
