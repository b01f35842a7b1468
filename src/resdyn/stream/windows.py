"""Which part of each value of a linear graph is needed and can differ from zero: one token of a sequence, for example.

A product with the Jacobian from one token to one token begins with a tangent that is zero at all others and ends with
the row of one. Norms and perceptrons keep tokens apart, attention needs one row of its scores and one column: what is
computed of all others is a zero or thrown away. Here every value of the graph gets a *window*, a range per dimension
outside of which it is zero or not needed, and every operation is rewritten to compute its window alone. Where the
windows of an operation are not known its operands are filled up with zeros, so that the graph means the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from resdyn.stream.ops import RENAMING, operation
from resdyn.stream.rewrite import reshape
from resdyn.stream.window import (
    ELEMENTWISE,
    Window,
    arguments,
    asked_of,
    but,
    common,
    dim_of,
    full,
    hull,
    offset_of,
    order_of,
    place_of,
    reduced_of,
    reshaped,
    shape_of,
    start_of,
    step_of,
)

aten = torch.ops.aten
IN_PLACE = {"div_": {"Tensor": aten.div.Tensor, "Scalar": aten.div.Scalar}}  # and what does the same elsewhere
LISTS = {"native_layer_norm_backward", "split", "split_with_sizes"}


class Windows:
    """Rewrites the moving part of a traced product, see the module; `graph` is changed in place by `rewrite`."""

    def __init__(self, graph: fx.Graph, moving: Iterable[fx.Node], zeros: Iterable[fx.Node]) -> None:
        self.graph, self.moving, self.zeros = graph, set(moving), set(zeros)
        self.needed: dict[fx.Node, Window] = {}
        self.parts: dict[fx.Node, tuple[fx.Node, Window]] = {}

    def rewrite(self) -> bool:
        """Rewrite the graph unless something in it is not understood; whether any window is smaller than all."""
        nodes = [node for node in self.graph.nodes if node in self.moving and node.op == "call_function"]
        if not all(map(self._is_known, nodes)):
            return False
        for node in reversed(list(self.graph.nodes)):
            if node in self.moving and node.op != "placeholder":
                self._ask(node)
        for node in nodes:
            if shape_of(node) is not None:
                with self.graph.inserting_before(node):
                    part, window = self._emitted(node)
                    if "val" not in part.meta:
                        part.meta["val"] = node.meta["val"].new_empty([stop - start for start, stop in window])
                    self.parts[node] = part, window
        (output,) = (node for node in self.graph.nodes if node.op == "output")
        with self.graph.inserting_before(output):
            output.args = fx.node.map_arg(output.args, lambda n: self._at(n, full(shape_of(n) or ())))
        for node in reversed(nodes):
            if not node.users:
                self.graph.erase_node(node)  # also what writes in place
        self.graph.eliminate_dead_code()
        return any(window != full(shape_of(node) or ()) for node, (_, window) in self.parts.items())

    def _is_known(self, node: fx.Node) -> bool:
        """Whether a list is one that is looked into, and what writes in place does so where nobody else reads."""
        name = operation(node)
        if name.endswith("_"):
            return name in IN_PLACE and len(arguments(node)[0].users) == 1
        if name == "getitem":
            return operation(arguments(node)[0]) in LISTS and shape_of(node) is not None
        return shape_of(node) is not None or name in LISTS

    # What is needed, from the output back.

    def _ask(self, node: fx.Node) -> None:
        shape = shape_of(node)
        if shape is None and node.op != "output":
            return  # a list, whose pieces ask
        wanted = full(shape or ()) if node.op == "output" else self.needed.get(node, full(shape or ()))
        for operand in self._operands(node):
            size = shape_of(operand) or ()
            asked = full(size) if node.op == "output" else asked_of(node, operand, wanted, size)
            self.needed[operand] = hull(self.needed[operand], asked) if operand in self.needed else asked

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        """The operands that depend on the tangent, of a piece of a list those of the list."""
        source = arguments(node)[0] if operation(node) == "getitem" else node
        return [n for n in source.all_input_nodes if n in self.moving]

    # The operations again, each on its window.

    def _emitted(self, node: fx.Node) -> tuple[fx.Node, Window]:
        shape = shape_of(node) or ()
        made = self._windowed(node, operation(node), self.needed.get(node, full(shape)), shape)
        if made is not None:
            return made
        if operation(node) == "getitem":
            items = self.graph.node_copy(arguments(node)[0], lambda n: self._at(n, None))
            return self._call(node.target, items, arguments(node)[1]), full(shape)
        return self.graph.node_copy(node, lambda n: self._at(n, None)), full(shape)

    def _windowed(
        self, node: fx.Node, name: str, wanted: Window, shape: tuple[int, ...]
    ) -> tuple[fx.Node, Window] | None:
        operands = self._operands(node)
        have = [self._window(n) for n in operands]
        if name in ELEMENTWISE:
            return self._elementwise(node, operands, have, wanted)
        if name in ("mm", "bmm") and len(operands) == 1:
            (part,) = have
            first = operands[0] is arguments(node)[0]
            rows, inner, cols = part[-2] if first else wanted[-2], part[-1 if first else -2], wanted[-1]
            cols = cols if first else common((part[-1],), (wanted[-1],))[0]
            rows = common((rows,), (wanted[-2],))[0]
            batch = common(part[:-2], wanted[:-2])
            a, b = (
                self._at(arguments(node)[0], (*batch, rows, inner)),
                self._at(arguments(node)[1], (*batch, inner, cols)),
            )
            return self._call(node.target, a, b), (*batch, rows, cols)
        if name in ("transpose", "t", "permute"):
            order = order_of(node, len(have[0]))
            window = tuple(have[0][d] for d in order)
            return self._call(aten.permute.default, self._at(operands[0], have[0]), list(order)), window
        if name in RENAMING:
            required, window = reshaped(have[0], shape_of(operands[0]) or (), shape)
            x = self._at(operands[0], required)
            return self._call(reshape, x, [stop - start for start, stop in window]), window
        if name == "expand":
            lead, size = len(shape) - len(have[0]), shape_of(operands[0]) or ()
            target = list(wanted[:lead])
            target += [
                wanted[lead + d] if n == 1 else common((have[0][d],), (wanted[lead + d],))[0]
                for d, n in enumerate(size)
            ]
            x = self._at(operands[0], tuple((0, 1) if n == 1 else target[lead + d] for d, n in enumerate(size)))
            return self._call(node.target, x, [stop - start for start, stop in target]), tuple(target)
        if name in ("sum", "mean"):
            return self._summed(node, name, operands[0], have[0])
        if name == "_softmax_backward_data" and len(operands) == 1 and operands[0] is arguments(node)[0]:
            window = but(have[0], full(shape), dim_of(node, 2, shape))
            x, y = self._at(operands[0], window), self._at(arguments(node)[1], window)
            dim = dim_of(node, 2, shape)
            return self._call(node.target, x, y, dim, *arguments(node)[3:]), window
        if name == "cat":
            return self._joined(node, operands, shape)
        if name == "select_backward":
            dim = arguments(node)[2] % len(shape)
            index = arguments(node)[3] % shape[dim]
            x = self._call(aten.unsqueeze.default, self._at(operands[0], have[0]), dim)
            return x, (*have[0][:dim], (index, index + 1), *have[0][dim:])
        if name == "select":
            dim = dim_of(node, 1, shape_of(operands[0]) or ())
            index = arguments(node)[2] % (shape_of(operands[0]) or ())[dim]
            window = (*have[0][:dim], (index, index + 1), *have[0][dim + 1 :])
            return self._call(node.target, self._at(operands[0], window), dim, 0), (*window[:dim], *window[dim + 1 :])
        if name == "slice" and step_of(node) == 1:
            dim, start = dim_of(node, 1, shape), start_of(node, shape_of(operands[0]) or ())
            inside = common((have[0][dim],), ((start, start + shape[dim]),))[0]
            window = (*have[0][:dim], inside, *have[0][dim + 1 :])
            moved = (inside[0] - start, inside[1] - start)
            return self._at(operands[0], window), (*window[:dim], moved, *window[dim + 1 :])
        if name == "getitem" and operation(arguments(node)[0]) == "native_layer_norm_backward":
            return self._of_norm(node, operands, have[0])
        if name == "getitem":
            dim, start = place_of(node, shape_of(operands[0]) or ())
            inside = common((have[0][dim],), ((start, start + shape[dim]),))[0]
            part = self._at(operands[0], (*have[0][:dim], inside, *have[0][dim + 1 :]))
            return part, (*have[0][:dim], (inside[0] - start, inside[1] - start), *have[0][dim + 1 :])
        return None

    def _of_norm(self, node: fx.Node, operands: list[fx.Node], part: Window) -> tuple[fx.Node, Window] | None:
        """The gradient of a layer norm's input, whose rows have nothing to do with each other."""
        norm = arguments(node)[0]
        gradient, x, normalized, mean, scale, *rest = arguments(norm)
        if arguments(node)[1] != 0 or operands != [gradient]:
            return None
        lead = len(part) - len(normalized)
        window = (*part[:lead], *full(normalized))
        one = tuple((0, 1) for _ in normalized)
        values = [self._at(gradient, window), self._at(x, window), normalized]
        values += [self._at(value, (*part[:lead], *one)) for value in (mean, scale)]
        return self._call(node.target, self._call(norm.target, *values, *rest), 0), window

    def _elementwise(
        self, node: fx.Node, operands: list[fx.Node], have: list[Window], wanted: Window
    ) -> tuple[fx.Node, Window] | None:
        spread = []
        for operand, part in zip(operands, have, strict=True):
            size, lead = shape_of(operand) or (), len(wanted) - len(part)
            broadcast = (*wanted[:lead], *(wanted[lead + d] if n == 1 else part[d] for d, n in enumerate(size)))
            spread.append(broadcast)
        window = spread[0]
        for other in spread[1:]:
            window = hull(window, other)
        window = common(window, wanted)

        def part_of(operand: fx.Node) -> Any:
            size = shape_of(operand)
            if size is None:
                return operand
            lead = len(window) - len(size)
            return self._at(operand, tuple((0, 1) if n == 1 else window[lead + d] for d, n in enumerate(size)))

        target: Any = IN_PLACE.get(operation(node), {}).get(str(node.target).rsplit(".", 1)[-1], node.target)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), part_of)
        return self.graph.call_function(target, args, kwargs), window

    def _summed(self, node: fx.Node, name: str, operand: fx.Node, part: Window) -> tuple[fx.Node, Window] | None:
        size = shape_of(operand) or ()
        found = reduced_of(node, size)
        if found is None:
            return None
        reduced, keep = found
        if name == "mean":  # divides by the number of all
            part = tuple((0, size[d]) if d in reduced else part[d] for d in range(len(size)))
        window = tuple((0, 1) if d in reduced else part[d] for d in range(len(size)) if keep or d not in reduced)
        return self._call(node.target, self._at(operand, part), list(reduced), keep), window

    def _joined(self, node: fx.Node, operands: list[fx.Node], shape: tuple[int, ...]) -> tuple[fx.Node, Window] | None:
        pieces, dim = list(arguments(node)[0]), dim_of(node, 1, shape)
        if any(p not in self.zeros and p not in operands for p in pieces):
            return None
        if len(operands) > 1:
            if any(len(shape_of(p) or ()) != len(shape) for p in pieces):
                return None
            window = self._window(operands[0])
            for other in operands[1:]:
                window = hull(window, self._window(other))
            parts = [self._at(p, but(window, full(shape_of(p) or ()), dim)) for p in pieces]
            return self._call(node.target, parts, dim), but(window, full(shape), dim)
        part, start = self._window(operands[0]), offset_of(node, operands[0])
        if start is None:
            return None
        window = (*part[:dim], (part[dim][0] + start, part[dim][1] + start), *part[dim + 1 :])
        return self._at(operands[0], part), window

    # Values at windows.

    def _window(self, node: fx.Node) -> Window:
        return self.parts[node][1] if node in self.parts else full(shape_of(node) or ())

    def _at(self, node: Any, window: Window | None) -> Any:
        """A value at a window (None: all of it): cut, and filled up with zeros where it has no part of its own."""
        shape = shape_of(node)
        if shape is None:
            return node
        part, own = self.parts.get(node, (node, full(shape)))
        window = full(shape) if window is None else window
        inside = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(own, window, strict=True))
        if any(start >= stop for start, stop in inside):
            return self._call(aten.new_zeros.default, part, [stop - start for start, stop in window])
        for dim, ((start, stop), (first, last)) in enumerate(zip(inside, own, strict=True)):
            if (start, stop) != (first, last):
                part = self._call(aten.slice.Tensor, part, dim, start - first, stop - first)
        if inside != window:
            ends = [(c - a, b - d) for (a, b), (c, d) in zip(window, inside, strict=True)]
            # window is at least inside: zeros before and after, the last dimension first
            part = self._call(aten.constant_pad_nd.default, part, [n for pair in reversed(ends) for n in pair])
        return part

    def _call(self, target: Any, *args: Any) -> Any:
        return self.graph.call_function(target, args)
