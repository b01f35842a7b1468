"""What is seen of a network at every epoch: risk, test error, and, now and then, its gradient flows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from resdyn.data import ImageData
from resdyn.papers.flows import gradient_flows
from resdyn.training import EpochEnd, accuracy

EARLY = 4  # epochs whose gradients figure 10 collects
HISTOGRAM = np.linspace(-0.25, 0.25, 101)


class Watch:
    """Risk and test error before training and after each epoch; flows before it, after epochs 1, 2, 4, .. and the last.

    `risk` is the mean loss over the epoch's training images, each before the step it took part in; `error` the share of
    `test` images that is wrong. Flows are of the first `images` training images.
    """

    def __init__(self, test: ImageData, images: int) -> None:
        self.test, self.images = test, images
        self.inputs, self.labels = torch.empty(0), torch.empty(0)

    def init(self, model: nn.Module, data: ImageData, *, state: dict[str, Any] | None = None) -> dict[str, Any]:
        shown = torch.arange(min(len(data), self.images))
        self.inputs, self.labels = data.inputs(shown), data.labels[shown]
        if state is not None:
            return state
        state = {
            "epoch": [0],
            "risk": [risk(model, data)],
            "error": [1 - accuracy(model, self.test)],
            "flow_epoch": [0],
            "fraction": [],
            "counts": [0] * (len(HISTOGRAM) - 1),
            "moments": [],
        }
        return self._with_flows(state, model, early=False)

    def update(self, state: dict[str, Any], end: EpochEnd) -> dict[str, Any]:
        done = end.epoch + 1
        state = state | {
            "epoch": [*state["epoch"], done],
            "risk": [*state["risk"], end.loss],
            "error": [*state["error"], 1 - accuracy(end.model, self.test)],
        }
        if done & (done - 1) and done != end.epochs:
            return state
        early = done <= EARLY or not state["moments"]  # of a network that is not trained: the only ones there are
        return self._with_flows(state | {"flow_epoch": [*state["flow_epoch"], done]}, end.model, early)

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def _with_flows(self, state: dict[str, Any], model: nn.Module, early: bool) -> dict[str, Any]:
        layers, classifier = flow_layers(model)
        weight = next(model.parameters())
        flows = gradient_flows(model, self.inputs.to(weight), self.labels, layers, classifier)
        state = state | {"fraction": [*state["fraction"], flows.fraction.mean(1).round(5).tolist()]}
        if not early:
            return state
        counts = np.histogram(flows.final, HISTOGRAM)[0] + np.array(state["counts"])
        moments = [float(np.mean(flows.final**k)) for k in (1, 2, 4)]
        return state | {"counts": counts.tolist(), "moments": [*state["moments"], moments]}


def flow_layers(model: nn.Module) -> tuple[list[str], str]:
    """Modules whose ReLU output is an activation, and the classifier; of fully-fledged networks the blocks' ends."""
    if hasattr(model, "layer_paths"):
        return list(model.layer_paths), "classifier"  # type: ignore[arg-type]
    names = (f"layer{stage}" for stage in (1, 2, 3))
    return [f"{name}.{k}" for name in names for k in range(len(model.get_submodule(name)))], "linear"  # type: ignore[arg-type]


def risk(model: nn.Module, data: ImageData, images: int | None = None) -> float:
    """The mean cross entropy over the images (the first `images` of them), the model in eval mode."""
    model.eval()
    weight, total, seen = next(model.parameters()), 0.0, 0
    with torch.no_grad():
        for batch in data.batches(512):
            logits = model(batch.inputs.to(weight))
            total += float(F.cross_entropy(logits, batch.labels.to(logits.device), reduction="sum"))
            seen += len(batch.labels)
            if images is not None and seen >= images:
                break
    return total / seen
