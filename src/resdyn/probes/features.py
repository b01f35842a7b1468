"""Where the classes are at every depth, and how tight: two passes over the data, no sample kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.errors import InputError
from resdyn.probes.folds import NUM_FOLDS, Folds, Turns, left_in
from resdyn.probes.protocol import Batches, described
from resdyn.probes.sample import Array, Layout, padded, state_sizes, to_numpy
from resdyn.probes.scatter import Scatter, class_members
from resdyn.probes.trajectory import class_logits
from resdyn.stream import States, Stream

Classifier = tuple[Tensor, Tensor | None]  # weight (C, d), bias (C,)
SAME = {
    "nearest_mean_agrees": "share of images whose nearest class mean is that of the prediction",
    "nearest_mean_accuracy": "share of images whose nearest class mean is that of the label",
}
TEXTS = {
    "num_images": ("images that the probe read", "1"),
    "class_count": ("images of each class", "1"),
    "class_mean": ("class means mu_c, padded with NaN", "state"),
    "within_trace": ("mean of |h - mu_c|^2 over the images of a class", "state^2"),
    "within_projected": ("m_c^T Sigma_W m_c', m_c the centred class means", "state^4"),
    **{name: (text, "1") for name, text in SAME.items()},
    "feature_mean": ("class means of the classifier's input", "feature"),
    "feature_within_trace": ("mean of |x - mu_c|^2 over the images of a class, x the classifier's input", "feature^2"),
    "feature_within_projected": ("m_c^T Sigma_W m_c' of the classifier's input", "feature^4"),
    **{f"feature_{name}": (f"{text}, by the classifier's input", "1") for name, text in SAME.items()},
    "fold_class_count": ("images of each class without those of a fold", "1"),
    "last_fold_mean": ("class means of the last state without the images of a fold", "state"),
    "last_fold_within_trace": ("the same of within_trace", "state^2"),
    "last_fold_within_projected": ("the same of within_projected", "state^4"),
    "feature_fold_mean": ("class means of the classifier's input without the images of a fold", "feature"),
    "feature_fold_within_trace": ("the same of feature_within_trace", "feature^2"),
    "feature_fold_within_projected": ("the same of feature_within_projected", "feature^4"),
    "classifier_weight": ("weight of the last linear map", "1"),
    "classifier_bias": ("bias of the last linear map", "1"),
}


@dataclass(frozen=True)
class Features:
    """Class means and within-class scatter of the states at every depth and of the classifier's input.

    With mu_c the mean of class c, mu_G the mean of the class means, m_c = mu_c - mu_G and
    Sigma_W = (1/N) sum_n (h_n - mu_{y_n})(h_n - mu_{y_n})^T over all images. A class without images has NaN.
    Everything is accumulated and stored in float64, counts in int64. The arrays:

    - `num_images` (): N;
    - `class_count` (class): n_c;
    - `class_mean` (depth, class, coord): mu_c, padded with NaN;
    - `within_trace` (depth, class): (1/n_c) sum_{y_n = c} |h_n - mu_c|^2;
    - `within_projected` (depth, class, class_j): m_c^T Sigma_W m_c';
    - `nearest_mean_accuracy` and `nearest_mean_agrees` (depth): the fraction of images whose nearest class mean is that
      of their label, is that of the network's prediction (NaN if its logits are not for these classes);
    - `feature_mean` (class, feature), `feature_within_trace`, `feature_within_projected`,
      `feature_nearest_mean_accuracy`, `feature_nearest_mean_agrees`: the same, without depth, of the input of the last
      linear map (a softmax may follow it);
    - `classifier_weight` (class, feature), `classifier_bias` (class): of that map.

    - `fold_class_count` (fold, class), `last_fold_mean` (fold, class, last_coord), `last_fold_within_trace`,
      `last_fold_within_projected`, and with the prefix `feature_fold_` the same of the classifier's input: n_c and the
      statistics without the images of a fold, of ten folds in which the images of a class take turns; errors over
      images come from them. Absent where they would not fit into `memory_limit_gb`.

    The lines on the classifier are absent where the model has no such map, or its classes are not the data's.

    Attributes:
        batch_size: Inputs of a batch (default 256).
        memory_limit_gb: Most memory that the class means may take, in units of 2^30 bytes (default 8).

    Raises:
        InputError: A setting of another type or outside its range.

    Cost:
        Two forward passes over the data; memory 2 C x (sum of state sizes) float64 values, which must stay under
        `memory_limit_gb` (else `InputError`), and 30 C x (last state size + classifier's input) for errors over images,
        where both fit.

    Source:
        Papyan, Han and Donoho (2020), "Prevalence of neural collapse", for the quantities of NC1-NC4.
    """

    batch_size: int = 256
    memory_limit_gb: float = 8.0
    name: ClassVar[str] = "features"
    per_sample: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True
    whole_state_only: ClassVar[bool] = True
    light: ClassVar[bool] = True
    passes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            batch_size=checks.whole("batch_size", self.batch_size, 1, of=self.name),
            memory_limit_gb=checks.number(
                "memory_limit_gb", self.memory_limit_gb, "a positive number", 0, of=self.name
            ),
        )

    def layout(self, stream: Stream, num_classes: int) -> Layout:
        """As in ``Probe.layout``: (depth, class, ...), and those of the classifier where its classes are the data's.

        Raises:
            InputError: The class means need more than `memory_limit_gb`.
        """
        sizes, c = state_sizes(stream), num_classes
        self._check_memory(sum(sizes), c)
        depths = len(sizes)
        layout: Layout = {
            "num_images": ((), (), "int64"),
            "class_count": (("class",), (c,), "int64"),
            "class_mean": (("depth", "class", "coord"), (depths, c, max(sizes)), "float64"),
            "within_trace": (("depth", "class"), (depths, c), "float64"),
            "within_projected": (("depth", "class", "class_j"), (depths, c, c), "float64"),
            "nearest_mean_agrees": (("depth",), (depths,), "float64"),
            "nearest_mean_accuracy": (("depth",), (depths,), "float64"),
        }
        classifier = _classifier(stream, num_classes)
        return layout | _classifier_layout(classifier, c) | self._fold_layout(stream, classifier, c)

    def measure(
        self, stream: Stream, batches: Batches, num_classes: int, tick: Callable[[int], None] = lambda n: None
    ) -> dict[str, Array]:
        """Class means in a first pass over the data, scatter about them in a second.

        Args:
            stream: The stream to be measured.
            batches: Each call starts a pass over (inputs, labels).
            num_classes: C, the number of classes.
            tick: Called with 1 after every batch of both passes.

        Returns:
            The arrays, by name.
        """
        classifier = _classifier(stream, num_classes)
        folds = {name: Folds() for name in self._folded(stream, classifier, num_classes)}
        means, counts, per_fold = self._means(stream, batches, num_classes, classifier is not None, folds, tick)
        scatters, turns = [Scatter(mean, counts) for mean in means], Turns(num_classes)
        for fold in folds.values():
            fold.begin(per_fold)
        for x, y in batches():
            states = stream.states(*x.args, **x.kwargs)
            predictions = _predictions(states.logits, num_classes)
            layers, turn = _layers(states, classifier is not None), turns.of(y)
            for scatter, h in zip(scatters, layers):
                scatter.add(h, y, predictions)
            for name, fold in folds.items():
                fold.add(_folded_layer(name, layers, len(stream)), y, turn)
            tick(1)
        found = _arrays(scatters, counts, state_sizes(stream), classifier)
        found |= {f"{name}_fold_{key}": v for name, fold in folds.items() for key, v in fold.results().items()}
        return found | ({"fold_class_count": left_in(per_fold)} if folds else {})

    def attributes(self, kind: str) -> dict[str, dict[str, str]]:
        """As in ``Probe``: long names and units; none is of a Jacobian."""
        return described(TEXTS)

    def _means(
        self,
        stream: Stream,
        batches: Batches,
        num_classes: int,
        with_features: bool,
        folds: dict[str, Folds],
        tick: Callable[[int], None],
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        sums: list[Tensor] = []
        counts: Tensor | float = 0.0
        turns, per_fold = Turns(num_classes), torch.zeros(NUM_FOLDS, num_classes, dtype=torch.float64)
        for x, y in batches():
            layers = _layers(stream.states(*x.args, **x.kwargs), with_features)
            members = class_members(y, num_classes).to(layers[0].device)
            sums = sums or [torch.zeros_like(members.T @ h) for h in layers]
            for total, h in zip(sums, layers):
                total += members.T @ h
            counts = counts + members.sum(0)
            turn = turns.of(y)
            per_fold.index_add_(0, turn, class_members(y.cpu(), num_classes))
            for name, fold in folds.items():
                fold.add_to_means(_folded_layer(name, layers, len(stream)), members, turn)
            tick(1)
        assert isinstance(counts, Tensor), "capture refuses empty data"
        return [total / counts[:, None] for total in sums], counts, per_fold

    def _folded(self, stream: Stream, classifier: Classifier | None, c: int) -> dict[str, int]:
        """Sizes of the layers of which folds are kept, the last state and the classifier's input; none if too large."""
        sizes = state_sizes(stream)
        last = {"last": sizes[-1]} | ({} if classifier is None else {"feature": int(classifier[0].shape[1])})
        values = 2 * sum(sizes) + 3 * NUM_FOLDS * sum(last.values())
        return last if 8 * values * c / 2**30 <= self.memory_limit_gb else {}

    def _fold_layout(self, stream: Stream, classifier: Classifier | None, c: int) -> Layout:
        folded, g = self._folded(stream, classifier, c), NUM_FOLDS
        layout: Layout = {"fold_class_count": (("fold", "class"), (g, c), "int64")} if folded else {}
        for name, size in folded.items():
            axis = {"last": "last_coord", "feature": "feature"}[name]
            layout |= {
                f"{name}_fold_mean": (("fold", "class", axis), (g, c, size), "float64"),
                f"{name}_fold_within_trace": (("fold", "class"), (g, c), "float64"),
                f"{name}_fold_within_projected": (("fold", "class", "class_j"), (g, c, c), "float64"),
            }
        return layout

    def _check_memory(self, values: int, num_classes: int) -> None:
        needed = 2 * 8 * values * num_classes / 2**30
        if needed > self.memory_limit_gb:
            raise InputError(
                f"features: the means of {num_classes} classes at all depths need {needed:.1f} GB, more than "
                f"memory_limit_gb={self.memory_limit_gb:g}; raise it or leave the probe out"
            )


def _arrays(
    scatters: list[Scatter], counts: Tensor, sizes: list[int], classifier: Classifier | None
) -> dict[str, Array]:
    layers = [scatter.results() for scatter in scatters]
    states, last = layers[: len(sizes)], layers[len(sizes) :]
    arrays = {name: np.stack([layer[name] for layer in states]) for name in states[0] if name != "mean"}
    arrays["class_mean"] = padded([layer["mean"] for layer in states], "float64")
    arrays["class_count"] = to_numpy(counts.long())
    arrays["num_images"] = to_numpy(counts.sum().long())
    if classifier is None:
        return arrays
    arrays |= {f"feature_{name}": values for name, values in last[0].items()}
    arrays["classifier_weight"] = to_numpy(_double(classifier[0]))
    if classifier[1] is not None:
        arrays["classifier_bias"] = to_numpy(_double(classifier[1]))
    return arrays


def _classifier(stream: Stream, num_classes: int) -> Classifier | None:
    classifier = stream.classifier()
    if classifier is not None and len(classifier[0]) == 1 and num_classes == 2:  # logits (0, z), as `class_logits`
        weight, bias = classifier
        classifier = _after_zero(weight), None if bias is None else _after_zero(bias)
    return classifier if classifier is not None and len(classifier[0]) == num_classes else None


def _after_zero(rows: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(rows), rows])


def _classifier_layout(classifier: Classifier | None, c: int) -> Layout:
    if classifier is None:
        return {}
    d = classifier[0].shape[1]
    layout: Layout = {
        "feature_mean": (("class", "feature"), (c, d), "float64"),
        "feature_within_trace": (("class",), (c,), "float64"),
        "feature_within_projected": (("class", "class_j"), (c, c), "float64"),
        "feature_nearest_mean_agrees": ((), (), "float64"),
        "feature_nearest_mean_accuracy": ((), (), "float64"),
        "classifier_weight": (("class", "feature"), (c, d), "float64"),
    }
    if classifier[1] is not None:
        layout["classifier_bias"] = (("class",), (c,), "float64")
    return layout


def _layers(states: States, with_features: bool) -> list[Tensor]:
    layers = [_double(h).flatten(1) for h in states]
    if with_features:
        assert states.features is not None, "a model with a classifier has its input"
        layers.append(_double(states.features).flatten(1))
    return layers


def _folded_layer(name: str, layers: list[Tensor], depth: int) -> Tensor:
    return layers[depth] if name == "last" else layers[-1]


def _double(values: Tensor) -> Tensor:
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()  # mps has no float64


def _predictions(output: Any, num_classes: int) -> Tensor | None:
    logits = class_logits(output, num_classes)
    return logits.argmax(1) if logits is not None and logits.shape[1] == num_classes else None
