"""Every private or experimental name of PyTorch that this project uses, imported from here alone.

`tests/test_torch_names.py` states of each what we rely on, so that a new version of PyTorch that changes one is noticed
there first. What takes long to load is loaded when it is called.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch._C import DisableTorchFunction
from torch._C import _set_grad_enabled as set_grad_enabled
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

__all__ = [
    "BatchNorm",
    "DisableTorchFunction",
    "FakeTensor",
    "TorchDispatchMode",
    "decomposed",
    "is_functorch_wrapped_tensor",
    "is_traceable_wrapper_subclass",
    "make_fx",
    "plain_flex_attention",
    "pytree",
    "runs_as_written",
    "set_grad_enabled",
    "uncompiled",
]

# Composite operations that torch always takes apart, into views, copies and kernels: into none that it would keep.
TAKEN_APART = {"reshape", "reshape_as", "view_as", "expand_as", "type_as", "flatten", "chunk", "contiguous", "to"}
TAKEN_APART |= {"dropout", "dropout_", "batch_norm"}
IN_PYTHON = torch._C.DispatchKey.Autograd  # taken apart in Python: hardshrink, upsampling


def runs_as_written() -> bool:
    """Whether nothing under `torch.compile` runs compiled here: the compiler is not loaded, or told to stay away."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and torch needs seconds to load its compiler
        return True
    from torch._dynamo import eval_frame

    return bool(eval_frame._stance.stance == "force_eager")


def uncompiled(model: Any) -> Any:
    """The module inside the wrapper that `torch.compile` puts around it, or None where there is no such wrapper."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, torch.nn.Module) else None


def plain_flex_attention(*arguments: Any) -> tuple[Tensor, ...]:
    """Flexible attention by plain operations: the operator itself has no forward-mode derivative and no batching."""
    from torch._higher_order_ops.flex_attention import math_attention

    results: tuple[Tensor, ...] = math_attention(*arguments)
    return results


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """An exported program without writes and aliases, its composite operations kept: ``run_decompositions({})``.

    To keep composite operations torch registers some 20 kernels in Python for each of the 500 that there are, which
    takes longer than to export a small model. Those that the program does not contain make no difference, and are left
    out here.
    """
    with _only_composites_of(program):
        return program.run_decompositions({})


@contextmanager
def _only_composites_of(program: torch.export.ExportedProgram) -> Iterator[None]:
    """In this thread torch sees no composite operations but a program's; all, where that might make a difference."""
    from torch.export import exported_program

    name = "_collect_all_valid_cia_ops"
    every, kept = getattr(exported_program, name, None), _kept_composites(program)
    if every is None or kept is None:
        yield
        return
    thread = threading.get_ident()
    setattr(exported_program, name, lambda: set(kept) if threading.get_ident() == thread else every())
    try:
        yield
    finally:
        setattr(exported_program, name, every)


def _kept_composites(program: torch.export.ExportedProgram) -> set[Any] | None:
    """The composite operations of a program that torch would keep; None where it takes apart one we do not know."""
    try:
        from torch._export.utils import _is_cia_op, _is_preservable_cia_op
    except ImportError:
        return None
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, fx.GraphModule)]
    operations = {n.target for graph in graphs for n in graph.nodes if isinstance(n.target, torch._ops.OpOverload)}
    kept = {op for op in operations if _is_preservable_cia_op(op)}
    others = {op for op in operations if IN_PYTHON in op.py_kernels or (op not in kept and _is_cia_op(op))}
    taken_apart = {op.name().removeprefix("aten::").split(".")[0] for op in others}
    return kept if taken_apart <= TAKEN_APART else None
