"""What surrounds a computation and changes its numbers without a word: autocast, inference mode, reduced precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

AUTOCAST = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Inside, a model computes in its own precision, whatever its caller has switched on.

    No autocast, no inference mode, float32 products of matrices and convolutions in float32 (neither TF32 nor
    bfloat16), and attention by matrix products: the fused kernels have no forward-mode derivative.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))
        for device in AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            stack.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        if torch.cuda.is_available() and torch.backends.cudnn.allow_tf32:
            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", True)
            torch.backends.cudnn.allow_tf32 = False
        yield
