"""Section 6: the networks and how they are trained, at each scale.

The paper gives 15 layers of 1064 logistic neurons, MNIST and a softmax, and neither optimizer nor epochs nor initial
weights. Here: Adam, one cosine cycle, batch 256, bfloat16 products while training. Free weights start at zero: of the
starts tried (see `starts.py`) only there do neighbouring layers come to have like residuals, as the paper reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resdyn.nets import LogisticResNet
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab, Scale, Trained
from resdyn.training import Recipe

NETWORKS = {"shared": "td_shared", "free": "td_free", "mlp": "td_mlp"}
STARTS: dict[str, dict[str, Any]] = {"shared": {}, "free": {"start": "zero"}, "mlp": {}}
# Adam moves every weight alike, so that z moves by about rate x neurons: the rates go as one over the neurons. The
# perceptron does not learn at the rate of the others.
LEARNING_RATE: dict[Scale, dict[str, float]] = {
    "tiny": {"shared": 1e-2, "free": 1e-2, "mlp": 1e-2},
    "small": {"shared": 4e-3, "free": 4e-3, "mlp": 1e-3},
    "paper": {"shared": 1e-3, "free": 1e-3, "mlp": 2e-4},
}
SAMPLES: dict[Scale, int] = {"tiny": 40, "small": 200, "paper": 200}  # of all classes
NOISE_IMAGES: dict[Scale, int] = {"tiny": 40, "small": 500, "paper": 300}
LAYERS: dict[Scale, int] = {"tiny": 60, "small": 1000, "paper": 1000}  # of the unrolled network
SEEDS: dict[Scale, tuple[int, ...]] = {"tiny": (0,), "small": (0, 1, 2), "paper": (0,)}


def case(scale: Scale, kind: str, seed: int = 0, **options: Any) -> Case:
    """The network `kind` (shared, free, mlp) at a scale; `options` go to the network."""
    size, epochs, images, data = _size(scale)
    recipe = Recipe(
        epochs=epochs,
        lr=LEARNING_RATE[scale][kind],
        weight_decay=0.0,
        batch_size=256 if scale == "paper" else 64,
        seed=seed,
        optimizer="adam",
        matmul_precision="medium" if scale == "paper" else "highest",
    )
    return Case(NETWORKS[kind], data, recipe, images, options=tuple(sorted((size | STARTS[kind] | options).items())))


def _size(scale: Scale) -> tuple[dict[str, Any], int, int | None, str]:
    """Width and depth where they are not the paper's, epochs, training images, dataset."""
    if scale == "paper":
        return {}, 14, None, "mnist"
    if scale == "small":
        return {"width": 256}, 14, 10_000, "mnist"
    return {"width": 24, "depth": 6}, 6, 256, "digits"


def logistic(network: Trained) -> LogisticResNet:
    """The model of a network of this paper."""
    assert isinstance(network.model, LogisticResNet)
    return network.model


def by_seed(over: str, values: Sequence[NDArray[np.float64]]) -> tuple[str, NDArray[np.float64]]:
    """What a number ranges over, and its values: the means of several seeds, or what one seed gave over `over`."""
    return (over, values[0]) if len(values) == 1 else ("seeds", np.array([row.mean() for row in values]))


def test_errors(lab: Lab, network: Trained) -> NDArray[np.float64]:
    """(test images,): 100 where one is misclassified, else 0: the mean is the error in per cent, its standard error
    the binomial one."""
    case, model = network.case, network.model
    data = case.images_of("test", lab.root).prepared(case.build(network.data)[1])
    weight = next(model.parameters())
    with torch.no_grad():
        wrong = [model(batch.inputs.to(weight)).argmax(1).cpu() != batch.labels for batch in data.batches(1000)]
    return 100.0 * torch.cat(wrong).double().numpy()


def states_of(lab: Lab, network: Trained, samples: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """x(0) of `samples` test images, as many of each class, in float64 (the model too), and their classes."""
    case, model = network.case, logistic(network).double()
    data = case.images_of("test", lab.root).prepared(case.build(network.data)[1])
    labels = data.labels.numpy()
    each = -(-samples // len(data.class_names))
    chosen = np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(len(data.class_names))])
    with torch.no_grad():
        x = model.input_map(data.inputs(torch.as_tensor(chosen)).to(model.classifier.weight).flatten(1))
    return x, labels[chosen]
