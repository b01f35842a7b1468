"""One residual block as functions of its state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import takewhile
from typing import Any, Literal

import torch
from torch import Tensor, fx

from resdyn._numerics import plain_arithmetic
from resdyn.errors import InputError
from resdyn.stream.cut import Cut, Evaluation, between
from resdyn.stream.gates import Join
from resdyn.stream.graph import DataGraph, tensor_of
from resdyn.stream.held import held_among, value_name
from resdyn.stream.inputs import usable
from resdyn.stream.linearize import BoundFunction, Direction, LinearMap, linear_map, structure_of
from resdyn.stream.ops import PACKING, gate_name, moves_nothing, node_modules
from resdyn.stream.passing import Passing

Kind = Literal["gated", "branch", "block"]
KINDS: tuple[Kind, ...] = ("gated", "branch", "block")


def graph_shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor in the exported graph, batch of one included."""
    value = tensor_of(node)
    assert value is not None
    return tuple(int(size) for size in value.shape)


def sample_shape(node: fx.Node) -> tuple[int, ...]:
    """The same shape without the batch of one."""
    shape = graph_shape(node)
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


class ResidualBlock:
    """The block h_{i+1} = gate(skip(h_i) + branch(h_i)) of a residual stream.

    `skip`, `branch`, `gate` and `block` take one state of shape `shape_in` (`gate`: of shape `shape_out`) or
    a batch of them with one leading dimension, and return the same arrangement. They are evaluated with the
    live weights of the model, batch norm in eval mode, and do not change anything.

    Attributes:
        index: From 0.
        path: The module that holds the branch.
        branch_modules: Its parts, in order.
        shape_in: Of a state, per sample.
        shape_out: Of what the block returns, per sample.
        skip_kind: "identity", "scaled", "gated", "mixing", "projection" or "none".
        gate_kind: "none", "relu", "layernorm", ...
        square: Whether input and output have the same number of elements.
        stage: Blocks on states of one shape share a stage.
        num_parameters: Parameters that the block reads.
        held: Names of the values that it reads besides its state and that were computed with weights before it: an
            embedding that enters every block, an encoder's output. They are held fixed in its Jacobians.
        join: The block as nodes of the exported graph.

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> block = resdyn.find_stream(model, torch.zeros(1, 3))[0]
        >>> h = torch.ones(4)
        >>> torch.equal(block.block(h), block.gate(block.skip(h) + block.branch(h)))
        True
    """

    def __init__(self, graph: DataGraph, join: Join, index: int, stage: int, path: str | None = None) -> None:
        """Internal: blocks are those of a `ResidualStream`.

        Args:
            graph: The exported model.
            join: The block as nodes of the graph.
            index: Its place in the stream, from 0.
            stage: The stage that it belongs to.
            path: The module that it is, where the user named it (default: read from the graph).
        """
        self.index = index
        self.stage = stage
        self.join = join
        self._graph = graph
        self._branch = Cut(graph, [join.fork], [join.branch])
        self._skip = None if join.skip is None else Cut(graph, [join.fork], [join.skip])
        self._gate = Cut(graph, [join.total], [join.out])
        self._whole = Cut(graph, [join.fork], [join.out])
        self._passing = Passing(graph, join.parts) if join.parts else None
        self._linear_maps: dict[tuple[Callable[..., Tensor], Direction], LinearMap | None] = {}
        self.path = path or join.path or module_path(self._branch.nodes)
        self.branch_modules = child_modules(self._branch.nodes, self.path)
        self.shape_in = sample_shape(join.fork)
        self.shape_out = sample_shape(join.out)
        self.skip_kind = join.skip_kind
        self.gate_kind = gate_name(between(graph, [join.total], [join.out]))
        self.square = numel(self.shape_in) == numel(self.shape_out)
        self.held_nodes = held_among(graph, self._whole.leaves)
        self.held = tuple(dict.fromkeys(map(value_name, self.held_nodes)))
        read, every = set(self._whole.parameters), graph.model.named_parameters(remove_duplicate=False)
        self.num_parameters = sum(p.numel() for p in {p for name, p in every if name in read})

    @property
    def nodes(self) -> Sequence[fx.Node]:
        """The operations from state to state."""
        return self._whole.nodes

    @property
    def needs_inputs(self) -> tuple[str, ...]:
        """Names of model inputs, such as a mask, that the block reads besides its state."""
        cuts = [cut for cut in (self._whole, self._skip, self._branch, self._gate) if cut is not None]
        reads = {leaf for cut in cuts for leaf in cut.leaves}
        seen = [n for n in self._graph.inputs if n in _ancestors(reads)]
        return tuple(node.name for node in seen)

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that its state consists of, where these are several; otherwise ()."""
        packed = self.join.packed
        return packed.before.keys if packed is not None and len(packed.before.shapes) > 1 else ()

    def split(self, h: Tensor) -> dict[str, Tensor]:
        """The values that states hold, by name; a state that is one value by the name "state".

        Args:
            h: One state, shape `shape_in`, or a batch (N, *shape_in).

        Returns:
            One tensor per value, with the same leading dimension.

        Raises:
            InputError: For a state of another shape or dtype.
        """
        single = self._check(h, self.shape_in, self.join.fork)
        if not self.values or self.join.packed is None:
            return {"state": h}
        layout = self.join.packed.before
        batch = h.reshape(-1, *self.graph_shape_in[1:])
        parts = batch.split(layout.lengths, layout.dim or 1)
        shaped = (part.reshape(-1, *shape[1:]) for part, shape in zip(parts, layout.shapes, strict=True))
        return {key: part[0] if single else part for key, part in zip(layout.keys, shaped, strict=True)}

    @property
    def branch_nodes(self) -> tuple[fx.Node, ...]:
        """The operations of the branch, in the exported graph."""
        return tuple(self._branch.nodes)

    def skip(self, h: Tensor, inputs: Sequence[Any] | None = None) -> Tensor:
        """The skipped value: h itself, or its linear projection (zero if the block has no skip).

        Args:
            h: One state, shape `shape_in`, or a batch (N, *shape_in).
            inputs: The model inputs of the sample (`states.inputs`), where the block reads them (`needs_inputs`); None
                takes those of the example.

        Returns:
            One value of shape `shape_out`, or N of them.

        Raises:
            InputError: For a state of another shape or dtype.
        """
        if self._skip is None:
            return torch.zeros_like(self.branch(h, inputs))
        return self._evaluate(self._skip, h, inputs)

    def branch(self, h: Tensor, inputs: Sequence[Any] | None = None) -> Tensor:
        """The residual F_i(h).

        Args:
            h: One state, shape `shape_in`, or a batch (N, *shape_in).
            inputs: As for `skip`.

        Returns:
            One value of shape `shape_out`, or N of them.

        Raises:
            InputError: For a state of another shape or dtype.
        """
        return self._evaluate(self._branch, h, inputs)

    def gate(self, z: Tensor, inputs: Sequence[Any] | None = None) -> Tensor:
        """What follows the sum z = skip(h) + F(h): the identity, a ReLU, a layer norm, ...

        Args:
            z: One sum, shape `shape_out`, or a batch (N, *shape_out).
            inputs: As for `skip`.

        Returns:
            One value of shape `shape_out`, or N of them.

        Raises:
            InputError: For a state of another shape or dtype.
        """
        return self._evaluate(self._gate, z, inputs)

    def block(self, h: Tensor, inputs: Sequence[Any] | None = None) -> Tensor:
        """The whole block, gate(skip(h) + F(h)).

        Args:
            h: One state, shape `shape_in`, or a batch (N, *shape_in).
            inputs: As for `skip`.

        Returns:
            One value of shape `shape_out`, or N of them.

        Raises:
            InputError: For a state of another shape or dtype.
        """
        return self._evaluate(self._whole, h, inputs)

    @property
    def has_transition(self) -> bool:
        """Whether something that is neither block nor gate comes before the next block."""
        return self.join.following is not None

    @plain_arithmetic()
    def _evaluate(self, cut: Cut, value: Tensor, inputs: Sequence[Any] | None) -> Tensor:
        shape = sample_shape(cut.sources[0])
        single = self._check(value, shape, cut.sources[0])
        batch = usable(value).reshape(-1, *graph_shape(cut.sources[0]))
        if len(batch) > 1 and self.needs_inputs and inputs is not None:
            raise InputError(
                f"block {self.index} ({self.path}) also reads {', '.join(self.needs_inputs)}, which belongs to one "
                "sample; evaluate one at a time, with states.sample(n) and its inputs"
            )
        function = cut.bind(Evaluation(self._graph, inputs if self.needs_inputs else None))
        with torch.no_grad():
            results = function(batch[0])[0][None] if len(batch) == 1 else torch.func.vmap(function)(batch)[0]
        results = results.reshape(len(batch), *sample_shape(cut.targets[0]))
        return (results[0] if single else results).clone()

    def _check(self, value: Tensor, shape: tuple[int, ...], source: fx.Node) -> bool:
        if not isinstance(value, Tensor) or tuple(value.shape[value.dim() - len(shape) :]) != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"block {self.index} ({self.path}) takes a state of shape {shape} or a batch of them, got {got}; "
                f"states come from stream.states(...)[{self.index}]"
            )
        expected = tensor_of(source)
        assert expected is not None
        if value.dtype != expected.dtype or value.dim() > len(shape) + 1:
            raise InputError(
                f"block {self.index} ({self.path}) takes one state or a batch of states of dtype {expected.dtype}, "
                f"got shape {tuple(value.shape)} and dtype {value.dtype}; convert it, or convert the model first"
            )
        return value.dim() == len(shape)

    def function(self, kind: Kind, h: Tensor, inputs: Sequence[Any] | None = None) -> BoundFunction:
        """The map of one graph-shaped state whose derivative at `h` is the Jacobian of this `kind`.

        Of a layer of several gated blocks "gated" is the derivative less what passes along skips and gates (`Passing`).

        Args:
            kind: "branch", "gated" or "block", as for `ResidualStream.jacobian`.
            h: The state, of shape `graph_shape_in`.
            inputs: As for `skip`.

        Returns:
            The map, with the weights of the model as they are now.
        """
        evaluation = Evaluation(self._graph, inputs)
        if kind == "block":
            return BoundFunction(self._apply_whole, self._whole.constants(evaluation))
        if kind == "gated" and self._passing is not None:
            constants = self._whole.constants(evaluation), self._passing.constants(h, evaluation)
            return BoundFunction(self._apply_layer, constants)
        branch = self._branch.constants(evaluation)
        if kind == "branch" or self.gate_kind == "none":
            return BoundFunction(self._apply_branch, branch)
        skipped = self.skip(h.reshape(self.shape_in), inputs).reshape(graph_shape(self.join.total))
        return BoundFunction(self._apply_gated, (skipped, *branch, *self._gate.constants(evaluation)))

    def skip_function(self, inputs: Sequence[Any] | None = None) -> BoundFunction:
        """The skip as a map of one graph-shaped state.

        Args:
            inputs: As for `skip`.

        Returns:
            The map, with the weights of the model as they are now.

        Raises:
            InputError: The block has no skip.
        """
        if self._skip is None:
            raise InputError(f"block {self.index} ({self.path}) has no skip, so there is no derivative of it")
        return BoundFunction(self._apply_skip, self._skip.constants(Evaluation(self._graph, inputs)))

    def _apply_skip(self, h: Tensor, *leaves: Any) -> Tensor:
        assert self._skip is not None
        return self._skip(h, *leaves)[0]

    def _apply_whole(self, h: Tensor, *leaves: Any) -> Tensor:
        return self._whole(h, *leaves)[0]

    def _apply_layer(self, h: Tensor, whole: tuple[Any, ...], passing: tuple[Any, ...]) -> Tensor:
        assert self._passing is not None
        return self._apply_whole(h, *whole) - self._passing(h, *passing)

    def _apply_branch(self, h: Tensor, *leaves: Any) -> Tensor:
        return self._branch(h, *leaves)[0]

    def _apply_gated(self, h: Tensor, skipped: Tensor, *leaves: Any) -> Tensor:
        count = len(self._branch.leaves)
        return self._gate(skipped + self._apply_branch(h, *leaves[:count]), *leaves[count:])[0]

    def linear_map(self, function: BoundFunction, h: Tensor, direction: Direction) -> LinearMap | None:
        """The traced derivative of one of the block's functions, or None where tracing does not reproduce it.

        A trace holds the sizes of one state, so a block whose sizes depend on the data has none.

        Args:
            function: What `function` or `skip_function` returned.
            h: The state at which the trace is taken, of shape `graph_shape_in`.
            direction: "forward" for J v, "reverse" for J^T u.

        Returns:
            The derivative as a function of any state; traced once per function and direction.
        """
        if not self._whole.fixed:
            return None
        key = function.function, direction
        if key not in self._linear_maps:
            self._linear_maps[key] = linear_map(function, h, direction, self._structure(function.function.__name__))
        return self._linear_maps[key]

    def _structure(self, name: str) -> Hashable | None:
        """What blocks have in common whose functions of this name differ only in the values that they read."""
        if self._passing is not None:
            return None
        cuts = [cut for cut in (self._branch, self._gate, self._whole, self._skip) if cut is not None]
        structure = structure_of(cuts)
        return None if structure is None else (name, structure)

    @property
    def precision(self) -> torch.dtype:
        """The coarsest floating-point dtype that the block computes in."""
        return self._whole.precision

    @property
    def numel_inside(self) -> int:
        """Elements of all intermediate values of the block, what a derivative may have to keep."""
        return self._whole.numel

    @property
    def graph_shape_in(self) -> tuple[int, ...]:
        """Shape of the state in the exported graph, batch of one included."""
        return graph_shape(self.join.fork)

    def describe(self) -> dict[str, Any]:
        """What the block is, as numbers, text and lists.

        Returns:
            index, path, branch_modules, shape_in, shape_out, skip, gate, square, stage, transition, parameters, held,
            values.
        """
        return {
            "index": self.index,
            "path": self.path,
            "branch_modules": list(self.branch_modules),
            "shape_in": list(self.shape_in),
            "shape_out": list(self.shape_out),
            "skip": self.skip_kind,
            "gate": self.gate_kind,
            "square": self.square,
            "stage": self.stage,
            "transition": self.has_transition,
            "parameters": self.num_parameters,
            "held": list(self.held),
            "values": list(self.values),
        }

    def __repr__(self) -> str:
        return (
            f"ResidualBlock({self.index}, {self.path!r}, {self.shape_in} -> {self.shape_out}, "
            f"skip={self.skip_kind}, gate={self.gate_kind}, {self._dtype_and_device()})"
        )

    def _dtype_and_device(self) -> str:
        value = tensor_of(self.join.fork)
        assert value is not None
        return f"{value.dtype}, {value.device}"


def numel(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of this shape."""
    return int(torch.Size(shape).numel())


def module_path(nodes: Sequence[fx.Node]) -> str:
    """The deepest module that holds all nodes, as a dotted path."""
    nodes = [node for node in nodes if not moves_nothing(node) and PACKING not in node.meta] or list(nodes)
    stacks = [node_modules(node) for node in nodes]
    shared = [module for module in stacks[0] if all(module in stack for stack in stacks)] if stacks else []
    called = shared[-1] if shared else ""
    parts = takewhile(lambda names: len(set(names)) == 1, zip(*(node_path(node).split(".") for node in nodes)))
    dotted = ".".join(names[0] for names in parts)
    return dotted if len(dotted) > len(called.split("@")[0]) else called


def child_modules(nodes: Sequence[fx.Node], path: str) -> tuple[str, ...]:
    """Names of the parts of module `path` that the nodes run through, in order."""
    depth = len(path.split(".")) if path else 0
    parts = [node_path(node).split(".")[depth : depth + 1] for node in nodes if PACKING not in node.meta]
    return tuple(dict.fromkeys(part[0] for part in parts if part and part[0]))


def node_path(node: fx.Node) -> str:
    """Dotted path of the innermost module that a node was traced in, whichever call of it."""
    modules = node_modules(node)
    return modules[-1].split("@")[0] if modules else ""


def _ancestors(nodes: set[fx.Node]) -> set[fx.Node]:
    seen, pending = set(nodes), list(nodes)
    while pending:
        for operand in pending.pop().all_input_nodes:
            if operand not in seen:
                seen.add(operand)
                pending.append(operand)
    return seen
