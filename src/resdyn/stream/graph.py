"""The functional graph of a model: exported once at batch size one, evaluated anywhere in between.

The exported program is the only description of the model that discovery and blocks look at. In-place
operations have been removed from it, so no later operation can overwrite a value that was read earlier.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from resdyn._hash import tensor_bytes
from resdyn._numerics import plain_arithmetic
from resdyn._torch import decomposed, pytree
from resdyn.errors import ComputationError, InputError
from resdyn.stream.failures import export_failure, failing_hook
from resdyn.stream.preserve import preserve_state
from resdyn.stream.rewrite import detach_from_patterns, rewrite
from resdyn.stream.stop_gradients import drop_idle_stops, stop_gradients_kept, write_out_stops

# What torch 2.13 says when a trace has lost a constant made in `forward`: seen once, in the first task of a worker, and
# not again in a dozen runs of the same test. A second trace has the constant, and is verified like any other.
LOST_CONSTANT = "found a fake tensor in the exported program constant"
LEAF = "leaf Variable that requires grad"


@dataclass(frozen=True)
class DataGraph:
    """A model's functional graph, the names of its leaves, and what it was exported with.

    `inputs` are the user-input placeholders in the order of the flattened example; `outputs` the tensors
    that the model returns. `parameters` maps a placeholder to the dotted name of a parameter or buffer:
    values are read from the live model at each evaluation, so that a network in training is seen in its current state.
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
    drop_idle_stops(module.graph, inputs)
    detach_from_patterns(module.graph)
    rewrite(module.graph, {*parameters, *constants})
    example = tuple(pytree.tree_leaves((args, kwargs)))
    if len(example) != len(inputs):
        raise ComputationError(
            f"the exported model takes {len(inputs)} inputs, the example holds {len(example)}; "
            "pass every input as a tensor, a number or None"
        )
    return DataGraph(model, module, tuple(inputs), outputs, parameters, constants, example)


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """Export without the hooks that fail on traced values, such as one that prints them.

    That such a hook changes no values is verified when the graph is compared with the model, where all hooks run.
    """
    with preserve_state(model):
        traced_again = False
        while True:
            try:
                return _functional(model, args, kwargs)
            except Exception as error:
                if LOST_CONSTANT in str(error) and not traced_again:
                    traced_again = True
                    continue
                hook = failing_hook(model, error)
                if hook is None:
                    raise ComputationError(export_failure(model, error)) from error
                hook.remove()


def _functional(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """Export with gradients recorded, as they are where a derivative is taken, to see what does not record them.

    Fused recurrent kernels have no forward-mode derivative; without them export writes plain operations. What export
    prints about a graph it gave up on is useless without the rest of its output. Scans and conditions are traced by
    the machinery of ``torch.compile``, which ``plain_arithmetic`` switches off.
    """
    with (
        tensors_only(model),
        stop_gradients_kept(model),
        silence_logs(),
        torch.enable_grad(),
        plain_arithmetic(),
        torch.backends.mkldnn.flags(enabled=False),
        redirect_stderr(io.StringIO()),
        torch.compiler.set_stance("default"),
    ):
        try:
            program = torch.export.export(model, args, kwargs, strict=False)
        except RuntimeError as error:
            if LEAF not in str(error) and not isinstance(error, NotImplementedError):
                raise
            with frozen(model):  # also for what has no backward on this device, such as flexible attention on a CPU
                program = torch.export.export(model, args, kwargs, strict=False)
        write_out_stops(program.graph_module.graph)
        return decomposed(program)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient: a model may write into its weights only then (`LEAF` is torch's complaint)."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def silence_logs() -> Iterator[None]:
    """Silence the logs and warnings of torch.export; errors still come through."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors that a model returned, including those in dataclasses, in order."""
    leaves = pytree.tree_leaves(output)
    parts = [
        tensors_of([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)
        else [leaf]
        for leaf in leaves
    ]
    return [tensor for part in parts for tensor in part if isinstance(tensor, Tensor)]


def main_output(output: Any) -> Tensor:
    """The output of a model: of several tensors the one named ``logits``, otherwise the first with dimensions."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    tensors = [
        value for value in tensors_of(output) if value.dim() and (value.is_floating_point() or value.is_complex())
    ]
    if isinstance(named, Tensor):
        return named
    if not tensors:
        raise InputError(f"the model returns {type(output).__name__}, which holds no floating-point tensor")
    return tensors[0]


@contextmanager
def tensors_only(model: nn.Module) -> Iterator[None]:
    """Let the model return only its tensors: export does not support caches of keys and values and the like."""

    def tensors(_: nn.Module, __: Any, output: Any) -> tuple[Tensor, ...]:
        return tuple(tensors_of(output))

    handle = model.register_forward_hook(tensors)
    try:
        yield
    finally:
        handle.remove()


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


def graph_fingerprint(graph: DataGraph) -> str:
    """sha256 over the code of a graph, its constants and the live tensors that it reads."""
    digest = hashlib.sha256(graph.module.code.encode())
    for node in graph.module.graph.nodes:
        if node.op == "placeholder" and node not in graph.inputs:
            value = graph.leaf(node)
            digest.update(node.name.encode())
            if isinstance(value, Tensor):
                digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
                digest.update(tensor_bytes(value))
            else:
                digest.update(repr(value).encode())
    for value in graph.example:
        digest.update(b"" if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()


def tensor_of(node: fx.Node) -> Tensor | None:
    """The fake tensor that export recorded for a node, if its value is one tensor."""
    value = node.meta.get("val")
    return value if isinstance(value, Tensor) else None


def size_of(node: fx.Node) -> tuple[int | str, ...]:
    """The shape of a node's tensor, () where it has none; sizes that depend on the data as their expressions."""
    value = tensor_of(node)
    return () if value is None else tuple(size if isinstance(size, int) else str(size) for size in value.shape)


def same_numel(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes hold tensors of as many elements; of sizes that depend on the data, of one shape."""
    left, right = size_of(a), size_of(b)
    if tensor_of(a) is None or tensor_of(b) is None:
        return False
    if all(isinstance(size, int) for size in (*left, *right)):
        return prod(left) == prod(right)  # type: ignore[type-var]
    return left == right


def is_floating(node: fx.Node) -> bool:
    """Whether a node carries floating-point or complex values (alone, or in a tuple of results)."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(item, Tensor) and (item.is_floating_point() or item.is_complex()) for item in values)
