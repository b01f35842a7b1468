"""Thin adapters to other people's training loops; each needs its package only when it is called.

`lightning_adaptive_depth` and `huggingface_adaptive_depth` make callbacks of a `resdyn.training.AdaptiveDepth`.
"""

from resdyn.integrations.huggingface import huggingface_adaptive_depth
from resdyn.integrations.lightning import lightning_adaptive_depth

__all__ = ["huggingface_adaptive_depth", "lightning_adaptive_depth"]
