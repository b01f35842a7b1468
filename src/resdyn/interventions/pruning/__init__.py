"""Which blocks of a trained network can be removed: ranking, removal, accuracy, and pruned models on disk."""

from __future__ import annotations

import warnings
from typing import Any

from resdyn.interventions.pruning.files import PrunedModel, load_pruned, save_pruned
from resdyn.interventions.pruning.ranking import BlockEffect, PruningStep, rank_blocks, remove_greedily
from resdyn.interventions.pruning.run import Accuracy, Pruning, prune
from resdyn.interventions.pruning.surgery import RemovalCandidate, drop, droppable_blocks

__all__ = [
    "Accuracy",
    "BlockEffect",
    "PrunedModel",
    "Pruning",
    "PruningStep",
    "RemovalCandidate",
    "drop",
    "droppable_blocks",
    "load_pruned",
    "prune",
    "rank_blocks",
    "remove_greedily",
    "save_pruned",
]

_RENAMED = {"Droppable": "RemovalCandidate", "Rung": "PruningStep"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(f"{name} is now called {new}; the old name will be removed", DeprecationWarning, stacklevel=2)
    return globals()[new]
