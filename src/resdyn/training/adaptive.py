"""Adaptive depth: a network loses its last layers while it trains, as long as these add nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from resdyn import _checks as checks
from resdyn.data.images import ImageData
from resdyn.stream.isolation import eval_mode
from resdyn.training.callbacks import CallbackState, EpochEnd
from resdyn.training.depth import block_lists, check_lists, depths, remove_last, residual_gaps, shrink

SAMPLES_SEED = 0


class AdaptiveDepth:
    """After each epoch, where the residuals of the last two blocks differ by less than `threshold`, the last goes.

    The difference is mean |r_n - r_(n-1)| over neurons and `samples` fixed training images, r = output - input. At most
    one block per list and epoch is removed, never the only one, and never one without which the model no longer runs.
    It stops once the training loss has not fallen for `patience` epochs by more than `min_improvement` of its
    best. A shared block that occurs in a list many times loses one of its places. In a network of several stages each
    list is looked at by itself.

    `blocks`: paths of the lists; None finds them by dataflow. The model that trains is changed in place, and so is its
    optimizer. As a callback of `resdyn.training.train` the result is one row per epoch: `epoch` (done so far, 0 before
    the first), `loss`, `depths` and `gaps` by list, before a removal, and `removed`, the lists that lost a block.
    For other loops: `resdyn.integrations`. Source: Lagzi (2021), section 7, threshold 0.01; there the loss decides
    when to stop, patience and the samples are ours.
    """

    def __init__(
        self,
        threshold: float = 0.01,
        *,
        patience: int = 3,
        min_improvement: float = 1e-3,
        blocks: Sequence[str] | None = None,
        samples: int = 256,
    ) -> None:
        self.threshold = checks.number("threshold", threshold, "a positive number", 0)
        self.patience = checks.whole("patience", patience, 1)
        self.min_improvement = checks.number("min_improvement", min_improvement, "a number in [0, 1)", least=0, below=1)
        self.blocks = None if blocks is None else checks.words("blocks", blocks)
        self.samples = checks.whole("samples", samples, 1)
        self._inputs: tuple[Any, ...] = ()

    def init(self, model: nn.Module, data: ImageData, *, state: CallbackState | None = None) -> CallbackState:
        """The state before the first epoch, or that of a resumed run; images to compare residuals on are chosen."""
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SAMPLES_SEED))
        weight = next(model.parameters())
        self._inputs = (data.inputs(order[: self.samples]).to(weight),)
        return self.begin(model, *self._inputs) if state is None else state

    def update(self, state: CallbackState, end: EpochEnd) -> CallbackState:
        """The state after one more epoch, in which blocks may have been removed."""
        return self.observe(state, end.model, end.optimizer, self._inputs, end.loss)

    def reshape(self, state: CallbackState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Shrink a model of full depth to the depth of `state`."""
        shrink(model, state["depths"], optimizer)

    def result(self, state: CallbackState) -> list[dict[str, Any]]:
        """One row per epoch."""
        rows: list[dict[str, Any]] = state["rows"]
        return rows

    def begin(self, model: nn.Module, *inputs: Any, **named: Any) -> CallbackState:
        """The state of a model that has not been trained; `inputs` are an example of what it is called with."""
        example = [x[:1] if isinstance(x, torch.Tensor) and x.dim() else x for x in inputs]
        first = {k: x[:1] if isinstance(x, torch.Tensor) and x.dim() else x for k, x in named.items()}
        paths = block_lists(model, *example, **first) if self.blocks is None else check_lists(model, self.blocks)
        now = depths(model, paths)
        gaps = residual_gaps(model, paths, inputs, **named)
        row: dict[str, Any] = {"epoch": 0, "loss": None, "depths": now, "gaps": gaps, "removed": []}
        return {"depths": now, "fixed": [], "best": None, "stale": 0, "rows": [row]}

    def observe(
        self,
        state: CallbackState,
        model: nn.Module,
        optimizer: Any,
        inputs: tuple[Any, ...],
        loss: float | None,
        **named: Any,
    ) -> CallbackState:
        """The state after an epoch of mean training loss `loss`; changes model and optimizer. None: loss unknown."""
        best, stale = self._progress(state, loss)
        before = state["depths"]
        gaps = residual_gaps(model, before, inputs, **named)
        removed: list[str] = []
        fixed = list(state["fixed"])
        if stale < self.patience:
            for path, gap in gaps.items():
                if gap < self.threshold and path not in fixed:
                    (removed if _removable(model, path, optimizer, inputs, named) else fixed).append(path)
        row = {"epoch": len(state["rows"]), "loss": loss, "depths": before, "gaps": gaps, "removed": removed}
        return {
            "depths": depths(model, before),
            "fixed": fixed,
            "best": best,
            "stale": stale,
            "rows": [*state["rows"], row],
        }

    def _progress(self, state: CallbackState, loss: float | None) -> tuple[float | None, int]:
        """The best loss so far, and for how many epochs it has not been beaten; once over, adaptation stays over."""
        best, stale = state["best"], state["stale"]
        if loss is None or stale >= self.patience:
            return best, stale
        if best is None or loss < (1 - self.min_improvement) * best:
            return loss, 0
        return best, stale + 1


def _removable(model: nn.Module, path: str, optimizer: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Remove the last block of a list if the model runs without it."""
    modules = model.get_submodule(path)._modules
    key, block = list(modules.items())[-1]
    modules.pop(key)
    try:
        with eval_mode(model), torch.no_grad():
            model(*inputs, **named)
    except (RuntimeError, ValueError, IndexError, KeyError):
        return False
    finally:
        modules[key] = block
    remove_last(model, path, optimizer)
    return True
