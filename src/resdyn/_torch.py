"""Every private or experimental name of PyTorch that this project uses, imported from here alone.

`tests/test_torch_names.py` states of each what we rely on, so that a new version of PyTorch that changes one is noticed
there first. What takes long to load is loaded when it is called.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
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
    "is_functorch_wrapped_tensor",
    "is_traceable_wrapper_subclass",
    "make_fx",
    "plain_flex_attention",
    "pytree",
    "runs_as_written",
    "set_grad_enabled",
    "uncompiled",
]


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
