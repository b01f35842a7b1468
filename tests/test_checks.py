"""Exact types at the public boundary: NumPy's numbers are welcome, what only looks like a number is refused by name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn import _checks as checks
from resdyn import linalg
from resdyn.cli.app import run
from resdyn.data import load_text, windows
from resdyn.errors import InputError
from resdyn.interventions.pruning import prune
from resdyn.nets import ResidualMLP
from resdyn.probes import Coupling, Cushion, Features, Robustness, Singular, Spectrum
from resdyn.training import AdaptiveDepth, Recipe

NO_WHOLE_NUMBERS = ["16", 2.5, 2.0, True, None, np.nan, np.float64(3), np.bool_(True), [3], -1, 10**30]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return ResidualMLP(in_features=4, width=6, depth=2, classes=3).double().eval()


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS)
def test_what_is_no_whole_number_is_none(value):
    with pytest.raises(InputError, match=r"got n=.* expected a whole number between 0 and 100"):
        checks.whole("n", value, 0, 100)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int32(3)])
def test_numpys_whole_numbers_become_pythons(value):
    assert type(checks.whole("n", value)) is int
    assert type(Singular(k=value).k) is int
    assert json.loads(json.dumps(dataclasses.asdict(Cushion(draws=value)))) == {"draws": 3, "exact_limit": 512}


SOLVERS = {
    linalg.svd: {
        "k": 2,
        "seed": 1,
        "tol": 0.01,
        "max_matvecs": 50,
        "block_size": 2,
        "basis_size": 8,
        "delta": 0.1,
        "memory_limit": 10**6,
        "power_iterations": 3,
        "oversampling": 3,
    },
    linalg.eigenvalues: {
        "which": "LR",
        "k": 2,
        "seed": 1,
        "tol": 0.01,
        "max_matvecs": 50,
        "basis_size": 20,
        "memory_limit": 10**6,
        "conditions": True,
    },
    linalg.count_negative: {"seed": 1, "memory_limit": 10**6, "by_inertia": True},
    linalg.spectral_distribution: {"thresholds": [0.5], "num_probes": 3, "degree": 5, "seed": 1},
    linalg.frobenius_norm: {"draws": 3, "seed": 1, "exact_limit": 5},
    linalg.commutator: {"num_probes": 3, "seed": 1},
    linalg.numerical_abscissa: {"tol": 0.01, "seed": 1},
}


@pytest.mark.parametrize(("solver", "name"), [(s, name) for s, settings in SOLVERS.items() for name in settings])
def test_arguments_of_solvers_are_of_exact_types_and_numpys_numbers_are_welcome(solver, name):
    operator, settings = linalg.DenseOperator(torch.eye(30, dtype=torch.float64)), SOLVERS[solver]
    solver(
        operator, **{key: value if isinstance(value, str) else np.asarray(value)[()] for key, value in settings.items()}
    )
    for wrong in ("3", np.nan, [None], -1, 1e400):
        with pytest.raises(InputError, match=rf"got {name}="):
            solver(operator, **settings | {name: wrong})


@pytest.mark.parametrize("value", ["0.5", True, np.nan, np.inf, None, 0, 1, -0.1, 1e300, [0.5], np.array([0.5])])
def test_what_is_no_number_of_the_range_is_none(value):
    with pytest.raises(InputError, match=r"got x=.*, expected a share"):
        checks.number("x", value, "a share", 0, 1)


@pytest.mark.parametrize(
    ("probe", "wrong"),
    [
        (Singular, {"k": True}),
        (Singular, {"k": 2.0}),
        (Singular, {"tol": np.nan}),
        (Singular, {"tol": True}),
        (Singular, {"method": ["dense"]}),
        (Singular, {"vectors": 1}),
        (Singular, {"vectors": "yes"}),
        (Coupling, {"k": True}),
        (Coupling, {"k": 0}),
        (Spectrum, {"dense_limit": True}),
        (Spectrum, {"slices": 0}),
        (Spectrum, {"kind": 3}),
        (Features, {"batch_size": 2.5}),
        (Features, {"memory_limit_gb": -1}),
        (Features, {"memory_limit_gb": "8"}),
        (Robustness, {"directions": True}),
        (Robustness, {"reach": "4"}),
        (Robustness, {"tol": np.nan}),
        (Robustness, {"directions": 10**9}),
        (Cushion, {"draws": 2.5}),
        (Cushion, {"exact_limit": None}),
        (Cushion, {"draws": 10**9}),
    ],
)
def test_a_probe_takes_settings_of_their_own_type(probe, wrong):
    with pytest.raises(InputError, match=f"{probe.name}: got .*{next(iter(wrong))}="):
        probe(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": "16"}, "got samples='16', expected a whole number"),
        ({"samples": 2.5}, "got samples=2.5"),
        ({"samples": True}, "got samples=True"),
        ({"samples": 0}, "got samples=0"),
        ({"samples": [0.5]}, r"got samples=\[0.5\], expected whole numbers"),
        ({"samples": [True, False]}, "got samples="),
        ({"samples": np.array([[1, 2]])}, "got samples="),
        ({"samples": torch.tensor([1.0])}, "got samples=a tensor"),
        ({"samples": ["1", "6"]}, "got samples="),
        ({"samples": [-1]}, "-1 is not one of them"),
        ({"samples": {1: 2}}, "got samples="),
        ({"seed": 1.0}, "got seed=1.0"),
        ({"seed": True}, "got seed=True"),
        ({"seed": 2**80}, "got seed="),
        ({"kind": None}, "got kind=None"),
        ({"kind": "gate"}, "Did you mean 'gated'"),
        ({"chunk_size": 1.5}, "got chunk_size=1.5"),
        ({"feature_samples": "3"}, "got feature_samples='3'.* or None"),
        ({"workers": True}, "got workers=True"),
        ({"workers": 10**6}, "got workers=1000000"),
        ({"scheduler": 8786}, "got scheduler=8786"),
        ({"show_progress": "no"}, "got show_progress='no'"),
        ({"quiet": "no"}, "got quiet='no'"),
        ({"notes": "hello"}, "got notes='hello', expected a list of texts"),
        ({"notes": [1]}, r"got notes=\[1\]"),
        ({"command": 3}, "got command=3"),
        ({"training": {"epoch": 1}}, "got training="),
        ({"training": [{"epoch": torch.ones(2)}]}, "got training="),
        ({"store": ""}, "got store=''"),
        ({"store": "."}, "expected a folder of its own"),
        ({"store": "/"}, "expected a folder of its own"),
        ({"position": "1"}, "got position='1'"),
        ({"granularity": 1}, "got granularity=1"),
        ({"probes": [3]}, "got the probe 3"),
        ({"probes": 3}, "got probes=3"),
    ],
)
def test_a_capture_takes_exact_types_and_writes_nothing_before(net, data, tmp_path, monkeypatch, wrong, message):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    asked = {"probes": "trajectory", "store": tmp_path / "s.zarr", "samples": 2, "show_progress": False} | wrong
    with pytest.raises(InputError, match=message) as error:
        resdyn.capture(net, data, **asked)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.rglob("*")] == ["here"]


def test_numpys_numbers_are_as_good_as_pythons(net, data, tmp_path):
    asked = {"probes": "trajectory,features", "show_progress": False, "command": ""}
    for name, samples in (("a", np.array([3, 1])), ("b", [np.int32(3), np.int8(1)]), ("c", torch.tensor([3, 1]))):
        found = resdyn.capture(
            net,
            data,
            store=tmp_path / name,
            samples=samples,
            seed=np.int64(0),
            **asked,
            feature_samples=np.int16(9),
            chunk_size=np.uint8(1),
        )
        assert found["sample"].values.tolist() == [3, 1]
    assert resdyn.capture(net, data, store=tmp_path / "d", samples=np.int64(2), **asked).sizes["sample"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": ["nope"]},
        {"metrics": "line_shape_score"},
        {"every": 2.5},
        {"samples": True},
        {"seed": None},
        {"budget": "0.1"},
        {"budget": np.nan},
        {"unit": 1},
        {"kind": "gate"},
        {"position": 1.5},
        {"granularity": "block"},
        {"feature_samples": 0},
        {"chunk_size": "1"},
        {"probes": "nope"},
        {"log": 3},
        {"clock": 3},
    ],
)
def test_a_monitor_takes_exact_types(wrong):
    with pytest.raises(InputError, match=r"got |unknown probe"):
        resdyn.Monitor(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": "0.1"},
        {"threshold": np.nan},
        {"threshold": True},
        {"patience": 1.5},
        {"samples": "9"},
        {"min_improvement": np.nan},
        {"blocks": "blocks"},
    ],
)
def test_adaptive_depth_takes_exact_types(wrong):
    with pytest.raises(InputError, match=f"got {next(iter(wrong))}="):
        AdaptiveDepth(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 2.5},
        {"epochs": True},
        {"lr": "0.1"},
        {"lr": np.inf},
        {"seed": -1},
        {"batch_size": 1},
        {"augment": 1},
        {"momentum": np.nan},
        {"schedule": 1},
    ],
)
def test_a_recipe_takes_exact_types(wrong):
    with pytest.raises(InputError, match=f"got {next(iter(wrong))}="):
        Recipe(**wrong)


@pytest.mark.parametrize("positions", [[0.5], ["1"], [True], 3, "12", [-1], [297], torch.tensor([0.5]), [[1, 2]], None])
def test_images_are_counted_in_whole_numbers(positions):
    digits = resdyn.load_data("digits")
    for ask in (digits.inputs, digits.subset):
        with pytest.raises(InputError, match="got positions"):
            ask(positions)


def test_words_and_paths_are_not_guessed_at(tmp_path):
    for call in (
        lambda: resdyn.load_data(3),
        lambda: resdyn.load_data("digits", split=1),
        lambda: resdyn.open(3),
        lambda: resdyn.load_data("digits", classes="12"),
        lambda: resdyn.load_model(None),
        lambda: resdyn.load_data("digits", root=1),
        lambda: load_text(tmp_path / "t", list, 2.5),
        lambda: windows(torch.rand(9), 2),
        lambda: windows(torch.arange(9), True),
        lambda: resdyn.write_comparison("a.zarr", tmp_path / "c.html"),
        lambda: resdyn.load_data("digits").of_classes("12"),
    ):
        with pytest.raises(InputError, match="got "):
            call()


def test_points_of_a_boundary_are_finite_floating_point(net):
    start = torch.zeros(2, 4, dtype=torch.float64)
    for wrong in (start * np.nan, start.long(), [[0.0] * 4], None):
        with pytest.raises(InputError, match=r"start|end"):
            resdyn.boundary_points(net, start, wrong)


def test_pruning_takes_exact_types():
    digits = resdyn.load_data("digits")
    model = resdyn.load_model("resdyn:mlp,width=8,depth=2")
    loss, images = "max_accuracy_loss", "num_selection_images"
    for wrong in ({loss: np.nan}, {loss: "0"}, {images: 2.5}, {images: True}, {"seed": 0.5}):
        with pytest.raises(InputError, match=f"got {next(iter(wrong))}="):
            prune(model, digits, **({images: 50} | wrong))


def test_a_page_is_no_folder(net, data, tmp_path):
    ds = resdyn.capture(net, data, "trajectory", tmp_path / "s.zarr", samples=2, show_progress=False)
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", ".", "", tmp_path / "s.zarr", 3):
        with pytest.raises(InputError, match="got path="):
            resdyn.write_report(ds, place)
    for wrong in ({"title": 3}, {"figures_dir": 3}):
        with pytest.raises(InputError, match=f"got {next(iter(wrong))}="):
            resdyn.write_report(ds, tmp_path / "r.html", **wrong)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    "line",
    [
        "samples: 2.5",
        "samples: true",
        "samples: [1, 2]",
        "seed: 1.5",
        "kind: 3",
        "seed: -1",
        "feature-samples: 0.5",
        "workers: -1",
        "samples: .nan",
    ],
)
def test_a_configuration_of_wrong_types_is_refused(tmp_path, capsys, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(line + "\n")
    words = ["capture", "resdyn:mlp,width=8,depth=2", "--data", "digits", "--probes", "trajectory", "--out", "s.zarr"]
    assert run([*words, "--config", "c.yaml"]) == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("words", [["--samples", "2.5"], ["--samples", "1e1"], ["--position", "0.5"], ["--seed", "٣"]])
def test_an_option_is_never_rounded(words, capsys):
    asked = ["capture", "resdyn:mlp,width=8,depth=2", "--data", "digits", "--out", "s.zarr", *words]
    assert run(asked) == 2
    assert words[1] in capsys.readouterr().err
