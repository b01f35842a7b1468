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
    """After each epoch, where the residuals of the last two blocks differ by less than `threshold`, it loses the last.

    The difference is mean |r_n - r_(n-1)| over neurons and `samples` fixed training images, r = output - input. At most
    one block per list and epoch is removed, never the only one, and never one without which the model no longer runs.
    Removal stops for good once the training loss has not fallen for `patience` epochs by more than `min_improvement` of
    its best. A shared block that occurs in a list many times loses one of its places. In a network of several stages
    each list is looked at by itself. The model that trains is changed in place, and so is its optimizer.

    As a callback of `resdyn.training.train` the result is one row per epoch: `epoch` (done so far, 0 before the first),
    `loss`, `depths` and `gaps` by list, before a removal, and `removed`, the lists that lost a block. For other loops:
    `resdyn.integrations`.

    Args:
        threshold: Of the mean difference, in the units of the states; positive.
        patience: Epochs without a lower loss after which no block is removed any more.
        min_improvement: The share of the best loss by which a loss must be lower to count, in [0, 1).
        blocks: Paths of the lists (`ModuleList` or `Sequential`). None: they are found by dataflow.
        samples: Training images on which residuals are compared.

    Raises:
        InputError: For a value outside these.

    Source:
        Lagzi (2021), section 7, threshold 0.01; there the loss decides when to stop, patience and the samples are ours.
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
        """The state before the first epoch, or that of a resumed run; images to compare residuals on are chosen.

        Args:
            model: The network, untrained or at the full depth that a resumed run began with.
            data: The training images, of which `samples` are drawn with a fixed seed.
            state: That of a resumed run; None: the run begins.

        Raises:
            InputError: Where no residual block is in a list, or one of `blocks` is not a list of blocks.
        """
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SAMPLES_SEED))
        weight = next(model.parameters())
        self._inputs = (data.inputs(order[: self.samples]).to(weight),)
        return self.begin(model, *self._inputs) if state is None else state

    def update(self, state: CallbackState, end: EpochEnd) -> CallbackState:
        """The state after one more epoch, after which blocks may have been removed.

        Args:
            state: What `init` or `update` returned.
            end: Of the epoch, with the optimizer.
        """
        return self.observe(state, end.model, end.optimizer, self._inputs, end.loss)

    def reshape(self, state: CallbackState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Shrink a model of full depth to the depth of `state`.

        Args:
            state: That of the run to resume.
            model: The network as it was before the run, changed in place.
            optimizer: That of the network; parameters of removed blocks leave it.

        Raises:
            InputError: Where a list of the model holds fewer blocks than `state` says.
        """
        shrink(model, state["depths"], optimizer)

    def result(self, state: CallbackState) -> list[dict[str, Any]]:
        """One row per epoch, after one of the untrained model.

        Args:
            state: The last one.
        """
        rows: list[dict[str, Any]] = state["rows"]
        return rows

    def begin(self, model: nn.Module, *inputs: Any, **named: Any) -> CallbackState:
        """The state of a model that has not been trained, for loops other than `train`.

        Args:
            model: The network.
            *inputs: A batch, what the model is called with; residuals are compared on it.
            **named: The arguments that it is called with by name.

        Raises:
            InputError: Where no residual block is in a list, or one of `blocks` is not a list of blocks.
        """
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
        """The state after an epoch, for loops other than `train`; model and optimizer are changed in place.

        Args:
            state: What `begin` or `observe` returned.
            model: The network.
            optimizer: The one that trains it.
            inputs: A batch, the model's positional arguments; residuals are compared on it.
            loss: Mean training loss of the epoch. None: unknown, which neither ends nor prolongs the adaptation.
            **named: The arguments that the model is called with by name.
        """
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
