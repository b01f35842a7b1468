"""The residual stream of a model: its blocks, and the states h_0..h_L of an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_unflatten

from resdyn._numerics import plain_arithmetic
from resdyn.errors import ComputationError, InputError
from resdyn.progress import stage
from resdyn.stream.block import KINDS, Kind, ResidualBlock, sample_shape
from resdyn.stream.configuration import configuration
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.discovery import find_joins
from resdyn.stream.exclusive import serially
from resdyn.stream.failures import COMPLEX, NO_STREAM, NO_TENSORS
from resdyn.stream.gates import Join
from resdyn.stream.granularity import Granularity, check_granularity, merge_layers
from resdyn.stream.graph import DataGraph, export_graph, graph_fingerprint, tensor_of
from resdyn.stream.inputs import Signature, check_eval, check_model, check_runs, usable
from resdyn.stream.jacobian import MEMORY_LIMIT, JacobianOperator, block_jacobian, skip_jacobian
from resdyn.stream.nested import hidden_blocks
from resdyn.stream.ops import operation
from resdyn.stream.readout import Readout, find_readout
from resdyn.stream.stages import block_stage, final_linear, state_stages
from resdyn.stream.states import States
from resdyn.stream.table import stream_html, stream_table
from resdyn.stream.token import Position, TokenStream
from resdyn.stream.verify import check_current, is_checked, relative_error, tolerance, verified

CHANGED = "has other blocks, because its modules or hooks have changed since the stream was found"
OUTLINE = ("index", "shape_in", "shape_out", "skip", "gate", "stage", "transition")


class ResidualStream:
    """The residual blocks of a model in order, h_{i+1} = gate_i(skip_i(h_i) + F_i(h_i)), i = 0..L-1.

    Made by `find_stream` or `stream_from_blocks` (then `named` holds the paths and the kind of skip that were
    given, else None). `granularity`: "join" or "layer" (see `find_stream`). `notes`: what a reader must know, such as
    blocks that lie inside the branch of another. `readout`: whether the output is logits, or probabilities (see
    `Readout`). `len(stream)` is L, `stream[i]` and
    `stream.blocks[i]` the blocks, `print(stream)` a table.
    """

    position: None = None  # of all tokens; see `at`

    def __init__(
        self,
        graph: DataGraph,
        joins: list[Join],
        target: fx.Node,
        signature: Signature,
        named: tuple[tuple[str, ...], str] | None = None,
        granularity: Granularity = "join",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.model: nn.Module = graph.model
        self.signature = signature
        self.named = named
        self.granularity: Granularity = granularity
        self.notes = notes
        self._graph = graph
        self._target = target
        self._stages = state_stages(joins)
        self.blocks = [
            ResidualBlock(graph, join, i, block_stage(joins, self._stages, i), None if named is None else named[0][i])
            for i, join in enumerate(joins)
        ]
        self.readout: Readout = find_readout(graph, target)
        logits = target if self.readout.logits is None else self.readout.logits
        self._classifier = final_linear(graph, logits)
        features = [] if self._classifier is None else [self._classifier[0]]
        forks, outs = [join.fork for join in joins], [join.out for join in joins]
        self._trace = Cut(graph, graph.inputs, list(dict.fromkeys([*forks, *outs, *features, logits, target])))
        self._vmappable: bool | None = None
        self._find_again: Callable[[], ResidualStream] | None = None
        self._configuration = configuration(graph.model)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[ResidualBlock]:
        return iter(self.blocks)

    def __getitem__(self, index: int) -> ResidualBlock:
        return self.blocks[index]

    def __str__(self) -> str:
        return stream_table(type(self.model).__name__, self.describe(), self.num_parameters, self.notes)

    def __repr__(self) -> str:
        return f"ResidualStream({type(self.model).__name__}, {len(self)} blocks)"

    def _repr_html_(self) -> str:
        return stream_html(type(self.model).__name__, self.describe(), self.num_parameters, self.notes)

    @property
    def whole(self) -> ResidualStream:
        """This stream; of the stream of one token, that of all tokens."""
        return self

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole model."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def stage_of_depth(self) -> tuple[int, ...]:
        """Stage of each state h_0..h_L: states of a stage have one shape and no transition between them."""
        return self._stages

    def describe(self) -> list[dict[str, Any]]:
        """The blocks as plain data, one dict each."""
        return [block.describe() for block in self.blocks]

    def fingerprint(self) -> str:
        """sha256 over the graph's code and every value it reads besides its inputs: what the model computes."""
        return graph_fingerprint(self._graph)

    def classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (C, d) and bias (C,) of the linear map that ends the model, or None."""
        if self._classifier is None:
            return None
        _, weight, bias = self._classifier
        evaluation = Evaluation(self._graph, None)
        return evaluation(weight), None if bias is None else evaluation(bias)

    def at(self, position: Position) -> TokenStream:
        """The stream of one token: `position` p, of token p onto itself, or (q, p), of token p onto token q.

        For states of shape (tokens, width): transformers, Mamba, patches of an image. Errors: InputError for others.
        """
        return TokenStream(self, position)

    @plain_arithmetic()
    def states(self, *args: Any, **kwargs: Any) -> States:
        """The states h_0..h_L of a batch of N samples, each (N, *shape_i), cloned and detached.

        Arguments are those of the model. Samples are evaluated independently (batch norm in eval mode).
        Cost: one forward pass, and one of the model itself at the first sample: where it has become another since the
        stream was found (an adapter switched off, a module exchanged), its graph is exported again. Errors: InputError
        if an input does not fit the example's shape or dtype; ComputationError if the blocks are not the same any more.
        """
        self._follow()
        states = self._states(*args, **kwargs)
        return self._states(*args, **kwargs) if self._renewed(args, kwargs, states.output[:1]) else states

    def _states(self, *args: Any, **kwargs: Any) -> States:
        """The same, whether or not the model still computes what its graph does."""
        check_eval(self.model)
        leaves, size = self.signature.check(args, kwargs)
        many = [batched and len(leaf) == size for leaf, batched in zip(leaves, self.signature.batched, strict=True)]
        values = dict(zip(self._trace.targets, self._values(leaves, many, size), strict=True))
        states = [values[block.join.fork] for block in self.blocks]
        outs = [values[block.join.out] for block in self.blocks]
        features = None if self._classifier is None else values[self._classifier[0]]
        output, node = values[self._target], self.readout.logits
        logits = self.readout.logits_of(output) if node is None else values[node].reshape(output.shape)
        return States([*states, outs[-1]], outs, output, features, leaves, self.signature.batched, logits)

    def _values(self, leaves: list[Any], many: list[bool], size: int) -> list[Tensor]:
        rows = [leaf.unsqueeze(1) if batched else leaf for leaf, batched in zip(leaves, many, strict=True)]
        run = self._trace.bind(Evaluation(self._graph, None))
        with torch.no_grad(), plain_arithmetic():
            if size > 1 and self._vmappable is not False:
                results = self._batched(run, rows, many)
                if results is not None:
                    return results
            singles = [run(*(r[n] if b else r for r, b in zip(rows, many, strict=True))) for n in range(size)]
        return [
            torch.stack(column).reshape(size, *sample_shape(node)).clone()
            for column, node in zip(zip(*singles), self._trace.targets)
        ]

    def _batched(self, run: Any, rows: list[Any], many: list[bool]) -> list[Tensor] | None:
        """All samples at once; None, and never again, where an operation cannot be batched."""
        dims = tuple(0 if batched else None for batched in many)
        try:
            results = torch.func.vmap(run, in_dims=dims)(*rows)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, NotImplementedError, KeyError):
            if self._vmappable:
                raise
            self._vmappable = False
            return None
        if self._vmappable is None:
            first = run(*(row[0] if batched else row for row, batched in zip(rows, many, strict=True)))
            self._vmappable = all(
                value[0].shape == single.shape and relative_error(value[0], single) <= tolerance(self._trace.precision)
                for value, single in zip(results, first, strict=True)
            )
            if not self._vmappable:
                return None
        size = len(results[0])
        return [
            value.reshape(size, *sample_shape(node)).clone()
            for value, node in zip(results, self._trace.targets, strict=True)
        ]

    @plain_arithmetic()
    def jacobian(
        self, i: int, state: Tensor | States, kind: Kind = "gated", *, memory_limit: int = MEMORY_LIMIT
    ) -> JacobianOperator:
        """The Jacobian of block `i` at one state, matrix-free, of shape (numel of output, numel of state).

        kind "branch": dF_i/dh. kind "gated": gate'(z) dF_i/dh at z = skip(h) + F(h), the Residual Jacobian of Li
        and Papyan (2023), section 1.3, skip excluded. kind "block": the derivative of the whole block.
        `state` is one sample's States or one state tensor (the input of block `i`). Tensors are flattened
        row-major. Products are processed in chunks that keep intermediate values under `memory_limit` bytes. Cost: one
        pass of the model and one of its graph, to see that they still agree, and products as they are asked for.
        """
        if kind not in KINDS:
            raise InputError(f"unknown kind of Jacobian {kind!r}; choose one of {', '.join(KINDS)}")
        block, shaped, inputs = self._linearisation_point(i, state)
        return block_jacobian(block, kind, shaped, inputs, memory_limit)

    @plain_arithmetic()
    def skip_jacobian(self, i: int, state: Tensor | States, *, memory_limit: int = MEMORY_LIMIT) -> JacobianOperator:
        """The linear part of the skip of block `i`, (numel of output, numel of state); the identity for most blocks.

        Arguments as for `jacobian`. Raises InputError for a block without a skip.
        """
        block, shaped, inputs = self._linearisation_point(i, state)
        return skip_jacobian(block, shaped, inputs, memory_limit)

    def _linearisation_point(
        self, i: int, state: Tensor | States
    ) -> tuple[ResidualBlock, Tensor, tuple[Any, ...] | None]:
        if not -len(self) <= i < len(self):
            raise InputError(f"there is no block {i}: the stream has blocks 0 to {len(self) - 1}")
        self._renew_at(state)
        block = self.blocks[i]
        h, inputs = self._one_state(block, state)
        return block, usable(h).reshape(block.graph_shape_in), inputs

    def _renew_at(self, state: Tensor | States) -> None:
        """See to it that the graph describes the model as it is, at these inputs, or at the example."""
        self._follow()
        one = isinstance(state, States) and state.num_samples == 1
        leaves = state.inputs if isinstance(state, States) and one else self._graph.example
        args, kwargs = tree_unflatten(list(leaves), self.signature.structure)
        self._renewed(args, kwargs)

    def _renewed(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor | None = None) -> bool:
        """Whether the model had become another than its graph, which was then exported again."""
        check_eval(self.model)
        try:
            check_current(self, args, kwargs, output)
        except ComputationError as error:
            self._export_again(error)
            return True
        return False

    def _follow(self) -> None:
        """Export again what is built or switched otherwise than it was; a derivative may change where no value does."""
        if is_checked() and configuration(self.model) != self._configuration:
            check_eval(self.model)
            name = type(self.model).__name__
            self._export_again(ComputationError(f"{name} {CHANGED}: find it again"))

    def _export_again(self, other_blocks: ComputationError) -> None:
        assert self._find_again is not None
        found = self._find_again()
        if _outline(found) != _outline(self):
            raise other_blocks
        self.__dict__.update(found.__dict__)

    def _one_state(self, block: ResidualBlock, state: Tensor | States) -> tuple[Tensor, tuple[Any, ...] | None]:
        if not isinstance(state, States):
            block._check(state, block.shape_in, block.join.fork)
            if state.numel() != block.join.fork.meta["val"].numel():
                raise InputError(
                    f"a Jacobian belongs to one state, got a batch of shape {tuple(state.shape)}; pass one of them"
                )
            return state, None
        if state.num_samples != 1:
            raise InputError(
                f"a Jacobian belongs to one sample, got States of {state.num_samples}; pass states.sample(n)"
            )
        return state[block.index], state.inputs


@serially
@plain_arithmetic()
def find_stream(
    model: nn.Module, *example_args: Any, granularity: Granularity = "join", **example_kwargs: Any
) -> ResidualStream:
    """Find the residual stream h_{i+1} = gate(skip(h_i) + F_i(h_i)) of any PyTorch model, by dataflow.

    The model is exported at the first sample of the example input. In the graph of its values, the dominators
    of the output are the states; where two consecutive ones are joined by a sum of a skip and a branch lies a
    block. Every block is then verified at the example: value, repeatability, adjoint identity.

    Parameters: the model in eval mode, and the arguments of one forward call, batch first. granularity "join": every
    residual sum is a block (attention and feed-forward of a transformer are two); "layer": those of one layer are one
    block, F(h) = layer(h) - h, the layer being the innermost repeated module that they lie in.
    Errors: InputError for a model in training mode, with NaN weights, of a kind that cannot be measured (see
    `plain_model`) or without a residual stream; ComputationError for one that cannot be exported, or a block that fails
    verification (named, with the reason).
    Cost: one export (seconds), and per block a few evaluations and one product with J and J^T each.
    """
    model = check_model(model)
    check_granularity(granularity)
    signature = Signature.of(example_args, example_kwargs)
    check_runs(model, example_args, example_kwargs, signature)
    args, kwargs = signature.one_sample(example_args, example_kwargs)
    with stage("exporting the model"):
        graph = export_graph(model, args, kwargs)
        joins, target = find_joins(graph)
    if not graph.outputs:
        raise InputError(f"{type(model).__name__} {NO_TENSORS}")
    if not joins or target is None:
        complex_sums = any(
            operation(n) == "add" and (v := tensor_of(n)) is not None and v.is_complex()
            for n in graph.module.graph.nodes
        )
        raise InputError(f"{type(model).__name__} {COMPLEX if complex_sums else NO_STREAM}")
    if granularity == "layer":
        joins = merge_layers(graph, joins)
    stream = ResidualStream(graph, joins, target, signature, granularity=granularity, notes=hidden_blocks(graph, joins))
    stream._find_again = partial(find_stream, model, *args, granularity=granularity, **kwargs)
    return verified(stream, example_args, example_kwargs)


def _outline(stream: ResidualStream) -> list[tuple[Any, ...]]:
    """What must stay for states and Jacobians to mean the same."""
    return [tuple(block[key] for key in OUTLINE) for block in stream.describe()]
