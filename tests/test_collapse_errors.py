"""Errors of NC1 to NC3 over images: those of a known distribution, and of the images that the probe left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import resdyn
from resdyn.metrics import neural_collapse
from resdyn.metrics.collapse_errors import collapse_errors
from resdyn.metrics.summary.features import rows
from resdyn.nets import ResidualMLP
from resdyn.probes.folds import NUM_FOLDS, Folds, Turns, left_in
from resdyn.probes.scatter import Scatter, class_members

CLASSES, SIZE, EACH = 4, 6, 30
MEANS = torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SPREAD = torch.tensor([0.3, 0.5, 0.2, 0.8], dtype=torch.float64)  # classes differ in their scatter
WEIGHT = MEANS - MEANS.mean(0)


def features_of(images: torch.Tensor, labels: torch.Tensor) -> xr.Dataset:
    """What the features probe stores of a last state that is the classifier's input too."""
    members, turn = class_members(labels, CLASSES), Turns(CLASSES).of(labels)
    counts, fold = members.sum(0), Folds()
    per_fold = torch.zeros(NUM_FOLDS, CLASSES, dtype=torch.float64).index_add_(0, turn, members)
    fold.add_to_means(images, members, turn)
    fold.begin(per_fold)
    fold.add(images, labels, turn)
    whole = Scatter(members.T @ images / counts[:, None], counts)
    whole.add(images, labels, None)
    found, folds = whole.results(), fold.results()
    dims = {"mean": ("class", "feature"), "within_trace": ("class",), "within_projected": ("class", "class_j")}
    last = {"mean": ("class", "last_coord"), "within_trace": ("class",), "within_projected": ("class", "class_j")}
    stored = {f"feature_{name}": (axes, found[name]) for name, axes in dims.items()}
    stored |= {f"feature_fold_{name}": (("fold", *axes), folds[name]) for name, axes in dims.items()}
    stored |= {f"last_fold_{name}": (("fold", *axes), folds[name]) for name, axes in last.items()}
    stored |= {"class_count": ("class", counts.numpy()), "classifier_weight": (("class", "feature"), WEIGHT.numpy())}
    return xr.Dataset(stored | {"fold_class_count": (("fold", "class"), left_in(per_fold))})


def draw(seed: int) -> xr.Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES * EACH) % CLASSES
    noise = torch.randn(len(labels), SIZE, generator=generator, dtype=torch.float64)
    return features_of(MEANS[labels] + SPREAD[labels, None] * noise, labels)


def test_errors_over_images_are_those_of_other_draws_of_images():
    draws = [draw(seed) for seed in range(1, 41)]
    numbers = [neural_collapse(ds) for ds in draws]
    errors = [collapse_errors(ds) for ds in draws]
    assert {found.groups for found in errors} == {NUM_FOLDS}
    wide = stats.t.ppf(0.975, NUM_FOLDS - 1)
    for name in numbers[0]:
        values = np.array([float(found[name]) for found in numbers])
        said = np.array([found.errors[name] for found in errors])
        assert 0.65 < np.sqrt((said**2).mean()) / values.std(ddof=1) < 1.5, name
        assert (np.abs(values - values.mean()) < wide * said).mean() > 0.82, name


def test_a_fold_holds_the_statistics_of_the_images_that_it_leaves():
    torch.manual_seed(0)
    net = ResidualMLP(in_features=5, width=6, depth=2, classes=3).double().eval()
    inputs, labels = torch.randn(50, 5, dtype=torch.float64), torch.arange(50) % 3
    settings = {"samples": 1, "show_progress": False, "store": None}
    whole = resdyn.capture(net, (inputs, labels), "features(batch_size=7)", **settings)
    assert "images, in 10 groups" in next(r.note for r in rows(whole) if r.name == "within_class_variability")
    turns = Turns(3).of(labels)
    for fold in (0, 9):
        kept = turns != fold
        part = resdyn.capture(net, (inputs[kept], labels[kept]), "features", **settings)
        here = whole.isel(fold=fold)
        np.testing.assert_array_equal(here["fold_class_count"], part["class_count"])
        for name in ("mean", "within_trace", "within_projected"):
            whole_name = "class_mean" if name == "mean" else name
            np.testing.assert_allclose(here[f"last_fold_{name}"], part[whole_name].isel(depth=-1), rtol=1e-9)
            np.testing.assert_allclose(here[f"feature_fold_{name}"], part[f"feature_{name}"], rtol=1e-9)


@pytest.mark.parametrize("each", [1, 3])
def test_a_class_of_one_image_has_no_error_over_images(each):
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor([each, 20, 20, 20]))
    ds = features_of(torch.randn(len(labels), SIZE, dtype=torch.float64), labels)
    assert ("over images" in collapse_errors(ds).said) == (each > 1)


def test_folds_that_do_not_fit_into_memory_are_left_out_and_errors_are_over_classes():
    net = ResidualMLP(in_features=5, width=6, depth=2, classes=4).double().eval()
    data = torch.randn(40, 5, dtype=torch.float64), torch.arange(40) % 4
    tight = "features(memory_limit_gb=4e-6)"  # 2^30 bytes: the means take 1.2e-6 of them, ten folds would 1.1e-5
    ds = resdyn.capture(net, data, tight, samples=1, show_progress=False, store=None)
    assert not [name for name in ds if "fold" in name]
    assert collapse_errors(ds).said == "standard error by jackknife over classes, in 4 groups"
