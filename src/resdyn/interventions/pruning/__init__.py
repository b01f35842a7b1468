"""Which blocks of a trained network can go: ranked, dropped, measured, written and read again."""

from resdyn.interventions.pruning.files import PrunedModel, load_pruned, save_pruned
from resdyn.interventions.pruning.ranking import BlockEffect, Rung, rank_blocks, remove_greedily
from resdyn.interventions.pruning.run import Accuracy, Pruning, prune
from resdyn.interventions.pruning.surgery import Droppable, drop, droppable_blocks

__all__ = [
    "Accuracy",
    "BlockEffect",
    "Droppable",
    "PrunedModel",
    "Pruning",
    "Rung",
    "drop",
    "droppable_blocks",
    "load_pruned",
    "prune",
    "rank_blocks",
    "remove_greedily",
    "save_pruned",
]
