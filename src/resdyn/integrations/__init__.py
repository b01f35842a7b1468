"""Thin adapters to other people's training loops; each needs its package only when it is called.

`lightning_monitor` and `huggingface_monitor` make callbacks of a `resdyn.Monitor`, `lightning_adaptive_depth` and
`huggingface_adaptive_depth` of a `resdyn.training.AdaptiveDepth`. `tensorboard_log` is for the `log` of a `Monitor`.
"""

from resdyn.integrations.huggingface import huggingface_adaptive_depth, huggingface_monitor
from resdyn.integrations.lightning import lightning_adaptive_depth, lightning_monitor
from resdyn.integrations.watching import tensorboard_log

__all__ = [
    "huggingface_adaptive_depth",
    "huggingface_monitor",
    "lightning_adaptive_depth",
    "lightning_monitor",
    "tensorboard_log",
]
