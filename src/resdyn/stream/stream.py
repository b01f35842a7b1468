"""The residual stream of a model: its blocks, and the states h_0..h_L of an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import torch
from torch import Tensor, fx, nn

from resdyn._display import Table
from resdyn._numerics import plain_arithmetic
from resdyn._torch import pytree
from resdyn.errors import ComputationError, InputError
from resdyn.stream.block import KINDS, Kind, ResidualBlock, sample_shape
from resdyn.stream.configuration import configuration
from resdyn.stream.coverage import Coverage, coverage
from resdyn.stream.cut import Cut, Evaluation
from resdyn.stream.gates import Join
from resdyn.stream.granularity import Granularity
from resdyn.stream.graph import DataGraph, graph_fingerprint
from resdyn.stream.held import held_by_transitions, held_notes, values_notes
from resdyn.stream.inputs import Signature, check_eval, usable
from resdyn.stream.jacobian import MEMORY_LIMIT, JacobianOperator, block_jacobian, skip_jacobian
from resdyn.stream.lookup import block_index, pick
from resdyn.stream.patching import Patched, patched, run_from
from resdyn.stream.readout import Readout, find_readout
from resdyn.stream.stages import block_stage, final_linear, state_stages
from resdyn.stream.states import States
from resdyn.stream.table import stream_table
from resdyn.stream.token import Position, TokenStream
from resdyn.stream.verify import check_current, is_checked, relative_error, tolerance

CHANGED = "has other blocks, because its modules or hooks have changed since the stream was found"
OUTLINE = ("index", "shape_in", "shape_out", "skip", "gate", "stage", "transition")


class ResidualStream:
    """The residual blocks of a model in order, ``h_{i+1} = gate_i(skip_i(h_i) + F_i(h_i))``, i = 0..L-1.

    Made by `find_stream` or `stream_from_blocks`. `len(stream)` is L; `stream[i]`, `stream["layer1.0"]` and
    `stream.blocks[i]` are blocks, `stream[1:3]` a list of them, and `print(stream)` is a table.

    Attributes:
        model: The module itself.
        blocks: The blocks in order.
        named: The paths and the kind of skip that were given to `stream_from_blocks`, else None.
        granularity: "join" or "layer" (see `find_stream`).
        hold: Names of the values that were to be held, None where nobody said so.
        within: The module whose blocks were looked for, None for the whole model.
        notes: What a reader must know, such as blocks inside the branch of another.
        readout: Whether the output is logits or probabilities (see `Readout`).
        coverage: What share of the model's parameters and operations lies inside the blocks.
        signature: Shapes and dtypes of the inputs that the stream was found with.
        position: None, for all tokens (see `at`).

    Example:
        >>> import torch, resdyn
        >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
        >>> stream = resdyn.find_stream(model, torch.zeros(1, 3))
        >>> len(stream), stream[1].shape_in, stream.stage_of_depth
        (2, (4,), (0, 0, 0))
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
        hold: tuple[str, ...] | None = None,
        within: str | None = None,
    ) -> None:
        """Internal: call `find_stream` or `stream_from_blocks`, which also verify the blocks.

        Args:
            graph: The exported model.
            joins: The blocks in order, as nodes of the graph.
            target: The node of the output that the states lead to.
            signature: Shapes and dtypes of the inputs of the example.
            named: Paths of the blocks and kind of skip, where the user named them.
            granularity: "join" or "layer".
            notes: What a reader must know.
            hold: Names of the values to hold, as they were given.
            within: The module of the blocks, as it was given.
        """
        self.hold = hold
        self.within = within
        self.model: nn.Module = graph.model
        self.signature = signature
        self.named = named
        self.granularity: Granularity = granularity
        self._graph = graph
        self._target = target
        self._stages = state_stages(joins)
        self.blocks = [
            ResidualBlock(graph, join, i, block_stage(joins, self._stages, i), None if named is None else named[0][i])
            for i, join in enumerate(joins)
        ]
        self.coverage: Coverage = coverage(graph, joins, target)
        held = [block.held_nodes for block in self.blocks], held_by_transitions(graph, joins)
        self.notes = (*notes, *values_notes(joins), *held_notes(*held))
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

    @overload
    def __getitem__(self, key: int | str) -> ResidualBlock: ...
    @overload
    def __getitem__(self, key: slice) -> list[ResidualBlock]: ...
    def __getitem__(self, key: int | str | slice) -> ResidualBlock | list[ResidualBlock]:
        """A block by its index or by its module's path, or a list of blocks by a slice."""
        blocks: ResidualBlock | list[ResidualBlock] = pick(self.blocks, key)
        return blocks

    def __str__(self) -> str:
        return self._table().text(max_lines=None)

    def __repr__(self) -> str:
        return f"ResidualStream({type(self.model).__name__}, {len(self)} blocks)"

    def _repr_html_(self) -> str:
        return self._table().html(max_lines=None)

    def _table(self) -> Table:
        return stream_table(type(self.model).__name__, self.describe(), self.num_parameters, self.notes, self.coverage)

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
        """Stage of each state h_0..h_L; the states of a stage have one shape and no transition between them."""
        return self._stages

    def describe(self) -> list[dict[str, Any]]:
        """The blocks as plain data.

        Returns:
            One dict per block with index, path, branch_modules, shape_in, shape_out, skip, gate, square, stage,
            transition, parameters, held, values.
        """
        return [block.describe() for block in self.blocks]

    def fingerprint(self) -> str:
        """sha256 over the graph's code and every value it reads besides its inputs: what the model computes.

        Returns:
            64 hexadecimal digits.
        """
        return graph_fingerprint(self._graph)

    def classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """The linear map ``logits = W h + b`` that ends the model, if there is one.

        Returns:
            Weight (C, d) and bias (C,) or None; or None where the model does not end in a linear map of one feature
            vector per sample.
        """
        if self._classifier is None:
            return None
        _, weight, bias = self._classifier
        evaluation = Evaluation(self._graph, None)
        return evaluation(weight), None if bias is None else evaluation(bias)

    def at(self, position: Position) -> TokenStream:
        """The stream of one token, for states of shape (tokens, width): transformers, Mamba, patches of an image.

        Args:
            position: p, token p onto itself; or (q, p), token p onto token q. From the end where negative.

        Returns:
            The same blocks with the states and Jacobians of that token.

        Raises:
            InputError: For states of another shape, and for a token that does not exist.
        """
        return TokenStream(self, position)

    @plain_arithmetic()
    def states(self, *args: Any, **kwargs: Any) -> States:
        """The states h_0..h_L of a batch of N samples, each (N, *shape_i), cloned and detached.

        Samples are evaluated independently (batch norm in eval mode). Cost: one forward pass, and one of the model
        itself at the first sample: where it has changed since the stream was found (an adapter switched off, a module
        exchanged), its graph is exported again.

        Args:
            *args: Arguments of the model, as `find_stream` was given, for any number of samples.
            **kwargs: Arguments of the model by name.

        Returns:
            The states, with the output, the logits and the features of the same pass.

        Raises:
            InputError: If an input does not fit the example's shape or dtype.
            ComputationError: If the blocks are no longer the same.

        Example:
            >>> import torch, resdyn
            >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
            >>> stream = resdyn.find_stream(model, torch.zeros(1, 3))
            >>> [tuple(h.shape) for h in stream.states(torch.ones(5, 3))]
            [(5, 4), (5, 4), (5, 4)]
        """
        args, kwargs = self.signature.spread(args, kwargs)
        self._follow()
        states = self._states(*args, **kwargs)
        return self._states(*args, **kwargs) if self._renewed(args, kwargs, states.output[:1]) else states

    def run(self, i: int, h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The output of the model that resumes from states `h` at depth `i` instead of its own.

        Args:
            i: The depth, 0 to L; L is the state after the last block.
            h: (N, *shape_i), one state per sample.
            *args: Inputs of the model, N samples, which the rest of the model may read besides the state.
            **kwargs: The same by name.

        Returns:
            The model's output, (N, ...).

        Raises:
            InputError: A depth that does not exist, states that do not fit the inputs, or a state that others pass by.

        Cost:
            Two passes of the model per sample.

        Example:
            >>> import torch, resdyn
            >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
            >>> x = torch.ones(5, 3)
            >>> stream = resdyn.find_stream(model, x)
            >>> bool(torch.allclose(stream.run(1, stream.states(x)[1], x), model(x), atol=1e-6))
            True
        """
        return run_from(self, i, h, self.states(*args, **kwargs))

    def patch(self, changes: Mapping[int | str, Callable[[Tensor], Tensor]], *args: Any, **kwargs: Any) -> Patched:
        """The model with the branch F_i of some blocks replaced by f(F_i): ablated, scaled, exchanged, steered.

        Args:
            changes: f by block, its index or module path; f takes and returns (N, *shape). `resdyn.interventions` has
                `ablate`, `scale`, `replace`, `add` and `project_out`.
            *args: Inputs of the model, N samples.
            **kwargs: The same by name.

        Returns:
            The output with and without the changes, and by how much it changed, sample by sample.

        Raises:
            InputError: A block that does not exist, or an f that returns something else.

        Cost:
            Two passes of the model per sample.

        Source:
            Veit, Wilber and Belongie (2016), for ablations.

        Example:
            >>> import torch, resdyn
            >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
            >>> stream = resdyn.find_stream(model, torch.ones(1, 3))
            >>> stream.patch({0: lambda F: F}, torch.ones(5, 3)).mean < 1e-6
            True
        """
        return patched(self, changes, self.states(*args, **kwargs))

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
        self, i: int | str, state: Tensor | States, kind: Kind = "gated", *, memory_limit: int = MEMORY_LIMIT
    ) -> JacobianOperator:
        """The Jacobian of block `i` at one state, matrix-free, of shape (numel of output, numel of state).

        Tensors are flattened row-major.

        Args:
            i: The block, by its index or by its module's path.
            state: One sample's `States`, or one state (the input of block `i`).
            kind: "branch", dF_i/dh; "gated", gate'(z) dF_i/dh at z = skip(h) + F(h), the skip excluded; "block", the
                derivative of the whole block.
            memory_limit: Bytes of intermediate values that products, processed in chunks, stay under.

        Returns:
            An operator for products with J and J^T.

        Raises:
            InputError: For a block that does not exist, a state that does not fit, or several samples.

        Cost:
            One pass of the model and one of its graph, to check that they still agree, and products as they are asked
            for.

        Source:
            Li and Papyan (2023), "Residual Alignment", section 1.3, the Residual Jacobian ("gated").

        Example:
            >>> import torch, resdyn
            >>> model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
            >>> stream = resdyn.find_stream(model, torch.zeros(1, 3))
            >>> states = stream.states(torch.ones(1, 3))
            >>> J = stream.jacobian(0, states)
            >>> J.shape, tuple(J.to_dense().shape)
            ((4, 4), (4, 4))
            >>> torch.allclose(J @ torch.ones(4), J.to_dense().sum(1), atol=1e-6)
            True
        """
        if kind not in KINDS:
            raise InputError(f"unknown kind of Jacobian {kind!r}; choose one of {', '.join(KINDS)}")
        block, shaped, inputs = self._linearisation_point(i, state)
        return block_jacobian(block, kind, shaped, inputs, memory_limit)

    @plain_arithmetic()
    def skip_jacobian(
        self, i: int | str, state: Tensor | States, *, memory_limit: int = MEMORY_LIMIT
    ) -> JacobianOperator:
        """The linear part of the skip of block `i`, (numel of output, numel of state); the identity for most blocks.

        Args:
            i: As for `jacobian`.
            state: As for `jacobian`.
            memory_limit: As for `jacobian`.

        Returns:
            An operator, as for `jacobian`.

        Raises:
            InputError: For a block without a skip.
        """
        block, shaped, inputs = self._linearisation_point(i, state)
        return skip_jacobian(block, shaped, inputs, memory_limit)

    def _linearisation_point(
        self, i: int | str, state: Tensor | States
    ) -> tuple[ResidualBlock, Tensor, tuple[Any, ...] | None]:
        i = block_index(self.blocks, i)
        self._renew_at(state)
        block = self.blocks[i]
        h, inputs = self._one_state(block, state)
        return block, usable(h).reshape(block.graph_shape_in), inputs

    def _renew_at(self, state: Tensor | States) -> None:
        """Make the graph describe the model as it is, at these inputs, or at the example."""
        self._follow()
        one = isinstance(state, States) and state.num_samples == 1
        leaves = state.inputs if isinstance(state, States) and one else self._graph.example
        args, kwargs = pytree.tree_unflatten(list(leaves), self.signature.structure)
        self._renewed(args, kwargs)

    def _renewed(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor | None = None) -> bool:
        """Whether the model computed something else than its graph, which was then exported again."""
        check_eval(self.model)
        try:
            check_current(self, args, kwargs, output)
        except ComputationError as error:
            self._export_again(error)
            return True
        return False

    def _follow(self) -> None:
        """Export again what is built or switched differently; a derivative may change where no value does."""
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


def _outline(stream: ResidualStream) -> list[tuple[Any, ...]]:
    """What must stay for states and Jacobians to mean the same."""
    return [tuple(block[key] for key in OUTLINE) for block in stream.describe()]
