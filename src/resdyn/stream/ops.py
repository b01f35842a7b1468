"""Kinds of operations, as far as finding a residual stream needs to distinguish them."""

from __future__ import annotations

import torch
from torch import fx

from resdyn.stream.graph import is_floating, tensor_of

NEUTRAL = {"alias", "clone", "plain_clone", "lift_fresh_copy", "contiguous", "_to_copy", "dropout", "getitem"}
RESHAPING = {
    "reshape",
    "view",
    "_unsafe_view",
    "permute",
    "transpose",
    "t",
    "unsqueeze",
    "squeeze",
    "flatten",
    "unflatten",
    "slice",
    "select",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "expand",
    "narrow",
    "movedim",
    "roll",
    "index",
}
SPLITTING = {"split", "split_with_sizes", "chunk", "unbind"}
PERMUTING = {"permute", "transpose"}  # all dimensions are kept, in another order
RENAMING = {"reshape", "view", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten"}
LINEAR = {
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "linear",
    "addmm",
    "mm",
    "bmm",
    "matmul",
    "frozen_batch_norm",
    "batch_norm",
    "mul",
    "div",
    "neg",
    "add",
    "sub",
    "constant_pad_nd",
    "pad",
    "cat",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "_adaptive_avg_pool2d",
    "adaptive_avg_pool2d",
    "mean",
    "sum",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "slice_scatter",
    "select_scatter",
    "pixel_shuffle",
    "pixel_unshuffle",
    "einsum",
    "rsub",
    "stack",
}
WEIGHTED = {"conv1d", "conv2d", "conv3d", "convolution", "linear", "addmm", "mm", "bmm", "matmul", "einsum"}
PRODUCTS = {"mul", "mm", "bmm", "matmul", "einsum"}  # linear in either of two operands
# Operations that return a state with some of its elements replaced.
WRITES = {"where", "scatter", "scatter_add", "index_add", "index_put", "index_copy", "slice_scatter", "select_scatter"}
# Elementwise, though torch does not tag them as `pointwise`.
UNTAGGED = {
    "prelu",
    "_prelu_kernel",
    "plain_prelu",
    "log_sigmoid",
    "log_sigmoid_forward",
    "hardswish",
    "full_like",
    "zeros_like",
    "ones_like",
    "scalar_tensor",
    "masked_fill",
    "where",
    "special_xlogy",
    "special_expit",
    "special_ndtr",
}
NORM = {
    "layer_norm",
    "native_layer_norm",
    "group_norm",
    "native_group_norm",
    "rms_norm",
    "_fused_rms_norm",
    "frozen_batch_norm",
    "instance_norm",
    "batch_norm",
}
STATISTICS = {"mean", "var", "var_mean", "sum", "amax", "linalg_vector_norm"}
GATE_NAMES = {
    "layer_norm": "layernorm",
    "native_layer_norm": "layernorm",
    "group_norm": "groupnorm",
    "native_group_norm": "groupnorm",
    "rms_norm": "rmsnorm",
    "_fused_rms_norm": "rmsnorm",
    "frozen_batch_norm": "batchnorm",
    "batch_norm": "batchnorm",
    "plain_prelu": "prelu",
}

OFF = (0, False)
PACKING = "resdyn_packing"  # marks nodes that put the values of a state side by side, or read one of them


def operation(node: fx.Node) -> str:
    """The bare name of a node's operation: `relu` for `aten.relu.default`."""
    name = getattr(node.target, "__name__", str(node.target))
    return name.removeprefix("aten.").split(".")[0]


def is_random(node: fx.Node) -> bool:
    """Whether an operation draws random numbers; a dropout that is switched off draws none."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    given = {known.name: known.default_value for known in arguments if known.has_default_value()}
    given |= dict(zip((known.name for known in arguments), node.args)) | node.kwargs
    return not any(given.get(name) in OFF for name in ("p", "dropout_p", "train", "training"))


def is_neutral(node: fx.Node) -> bool:
    """Whether the result has the same numbers in the same shape."""
    return operation(node) in NEUTRAL


def moves_nothing(node: fx.Node) -> bool:
    """Whether the result has the same numbers in the same order, possibly in another shape."""
    return is_neutral(node) or operation(node) in RENAMING


def operands_of(node: fx.Node) -> list[fx.Node]:
    """Every operand as often as it occurs: h * h has two."""
    operands: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), operands.append)
    return operands


def node_modules(node: fx.Node) -> list[str]:
    """Modules that a node was traced in, outermost first; a module's second call is `path@1`."""
    stack = node.meta.get("nn_module_stack", {})
    return [str(entry[0]) + ("@" + key.rsplit("@", 1)[1] if "@" in key else "") for key, entry in stack.items()]


def is_linear(node: fx.Node, flow: set[fx.Node]) -> bool:
    """An affine map of the one operand that belongs to the flow (all others are constants of the block)."""
    name = operation(node)
    if name in NEUTRAL or name in RESHAPING:
        return True
    operands = [n for n in operands_of(node) if n in flow]
    if name not in LINEAR or (len(operands) != 1 and name not in {"add", "sub", "cat", "stack"}):
        return False
    return name != "div" or node.args[0] in flow


def is_elementwise(node: fx.Node) -> bool:
    """Whether each element of the result depends on the same element of the operands alone."""
    name = operation(node)
    return name in UNTAGGED or moves_nothing(node) or torch.Tag.pointwise in _tags(node)


def _tags(node: fx.Node) -> list[torch.Tag]:
    """The tags of a node's operation; ``special_erfc`` is an alias of ``erfc``, which has more of them."""
    kind, name = getattr(node.target, "_overloadname", ""), operation(node).removeprefix("special_")
    plain = getattr(getattr(torch.ops.aten, name, None), kind, None)
    return [tag for target in (node.target, plain) for tag in getattr(target, "tags", ())]


def is_pointwise(node: fx.Node) -> bool:
    """Elementwise, a normalisation, or part of one: what a gate may consist of."""
    name = operation(node)
    return is_elementwise(node) or name in NORM or (name in STATISTICS and _keeps_rank(node))


def _keeps_rank(node: fx.Node) -> bool:
    value, source = tensor_of(node), node.all_input_nodes[0]
    before = tensor_of(source)
    return value is not None and before is not None and value.dim() == before.dim()


def is_flow(node: fx.Node) -> bool:
    """Whether a node can carry a state: an operation with floating-point results."""
    return node.op == "call_function" and is_floating(node)


def gate_name(nodes: list[fx.Node]) -> str:
    """`relu`, `layernorm`, ... for one operation; a composite takes its module's name or the operations' names."""
    active = [node for node in nodes if not moves_nothing(node) and PACKING not in node.meta]
    if not active:
        return "none"
    names = [GATE_NAMES.get(operation(node), operation(node)) for node in active]
    if len(names) == 1:
        return names[0]
    return _module_class(active) or "+".join(names)


def _module_class(gate: list[fx.Node]) -> str:
    """The class of the module that consists of just these nodes, in lower case, or nothing."""
    paths = {node_modules(node)[-1] if node_modules(node) else "" for node in gate}
    if len(paths) != 1 or not (path := paths.pop()):
        return ""
    own = [node for node in gate[0].graph.nodes if is_flow(node) and path in node_modules(node)]
    if not {node for node in own if not moves_nothing(node)} <= set(gate):
        return ""
    entry = list(gate[0].meta["nn_module_stack"].values())[-1]
    return str(entry[1]).split(".")[-1].rstrip("'>").lower()
