"""What callbacks would find of a network that is not trained: the null of every claim about training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from resdyn.data.images import ImageData
from resdyn.monitor.monitor import Monitor
from resdyn.training.callbacks import Callback, EpochEnd
from resdyn.training.loop import History, notify
from resdyn.training.recipe import Recipe

IMAGES = 2000  # on which loss and accuracy are taken


def watch_untrained(
    model: nn.Module, data: ImageData, recipe: Recipe, callbacks: Sequence[Callback | Monitor] = ()
) -> History:
    """Show callbacks the network as it is, before the first epoch and as if after the last, and train nothing.

    Args:
        model: Left as it is, in eval mode, unless a callback changes it.
        data: The images that `train` would use.
        recipe: That of the run that does not happen.
        callbacks: As for `train`.

    Returns:
        A history of one record, whose loss and accuracy are those of the network on the first 2,000 images.
    """
    model.eval()
    loss, accuracy = _measure(model, data.subset(range(min(len(data), IMAGES))))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    last = recipe.epochs - 1
    end = EpochEnd(last, recipe.epochs, model, loss, accuracy, recipe.learning_rate(last), optimizer)
    results = [c.result(notify(c, c.init(model, data), end)) for c in callbacks]
    return History([{"epoch": last, "loss": loss, "accuracy": accuracy, "learning_rate": 0.0}], results, 0.0)


def _measure(model: nn.Module, data: ImageData) -> tuple[float, float]:
    """Mean cross entropy and fraction of right predictions."""
    weight, loss, right = next(model.parameters()), 0.0, 0
    with torch.no_grad():
        for batch in data.batches(512):
            labels = batch.labels.to(weight.device)
            logits = model(batch.inputs.to(weight))
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    return loss / len(data), right / len(data)
