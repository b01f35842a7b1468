"""Global settings that silently change numbers: autocast, inference mode, reduced precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from resdyn._torch import runs_as_written

AUTOCAST = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Within the context a model computes in its own precision, and attention is a product of matrices.

    The fused kernels of attention have no forward-mode derivative, nor has the fast path that
    ``nn.TransformerEncoder`` takes where no gradient is needed, which leaves zeros in place of padding. For the
    rest see ``full_precision``.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel([SDPBackend.MATH]), full_precision(), as_written():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def as_written() -> Iterator[None]:
    """Code under ``torch.compile`` runs as written: a compiled piece hides its operations, and rounds differently."""
    if runs_as_written():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """No autocast, no inference mode, float32 products in float32 (not TF32 or bfloat16), whatever the settings."""
    with ExitStack() as stack:
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
