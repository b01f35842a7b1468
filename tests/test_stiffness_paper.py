"""The stiffness paper: its scripts at scale tiny, its tables from the architecture, its equations."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import pearsonr

from resdyn import metrics
from resdyn.errors import InputError
from resdyn.papers import compare, get_paper, run_experiment
from resdyn.papers.case import Pretrained
from resdyn.papers.lab import Lab
from resdyn.papers.results import Number, Result
from resdyn.papers.stiffness import beyond, blocks, correlation, euler, geometry, labels, measure, odenet
from resdyn.papers.stiffness.fields import Field, fit, ode_net, residual_net
from resdyn.papers.stiffness.networks import TINY, published
from resdyn.papers.stiffness.printed import printed
from resdyn.training import accuracy

PAPER = get_paper("stiffness")
ODE = pytest.mark.skipif(
    importlib.util.find_spec("torchdiffeq") is None, reason="torchdiffeq is missing: pip install 'resdyn[ode]'"
)
SLOW = [pytest.param(name, marks=ODE) if name == "odenet" else name for name in PAPER.experiments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stiffness")


@pytest.fixture
def lab(tmp_path):
    return Lab(Result("stiffness", "x", "tiny", tmp_path / "x.json"), tmp_path, quiet=True)


@pytest.fixture
def synthetic():
    """Ten images of five labels, three blocks: index -1, -2, -4 at every image but for a little; % from the label."""
    rng = np.random.default_rng(0)
    index = -np.array([1.0, 2.0, 4.0]) * (1 + 0.01 * rng.standard_normal((10, 1)))
    label = np.arange(10) % 5
    percent = np.stack([label + 1.0, label + 1.0, np.full(10, np.nan)], axis=1)
    dims = ("sample", "block")
    variables = {f"stiffness_index_{reading}": (dims, index) for reading in measure.READINGS}
    variables |= {f"percent_negative_{reading}": (dims, percent) for reading in measure.READINGS}
    variables |= {name: (dims, np.ones((10, 3))) for name in beyond.MAPS}
    variables |= {
        "prediction": ("sample", np.where(label < 2, label, 0)),
        "loss": ("sample", label.astype(float)),
        "noise_amplitude": ("sample", 10.0 - label),
        "gradient_amplitude": ("sample", -index[:, 0]),
    }
    return xr.Dataset(variables, {"label": ("sample", label), "sample": np.arange(10), "block": np.arange(3)})


@pytest.mark.parametrize("name", SLOW)
def test_every_experiment_runs_at_scale_tiny_and_makes_what_its_claims_name(name, folder):
    found = run_experiment(PAPER, name, "tiny", folder, quiet=True)
    assert found.complete
    made = {key.split(".")[-1] for key in found.numbers}
    assert {claim.number.split(".")[-1] for claim in PAPER.experiments[name].claims} <= made
    assert found.pictures


def test_the_tables_of_counts_are_the_papers_to_the_digit_and_the_true_counts_are_not(folder):
    found = run_experiment(PAPER, "counts", "small", folder, quiet=True)
    (row,) = [row for row in compare(PAPER, [found]) if row.experiment.name == "counts"]
    for claim in row.claims:
        agrees = not claim.claim.number.endswith("flattened")
        assert claim.verdict == ("agrees" if agrees else "disagrees"), claim.claim.claim
    assert found.numbers["resnet18.total.elements"].value == 801_112_064
    assert found.numbers["resnet34.total.slices"].value == 115_343_360
    assert found.numbers["resnet18.block1.flattened"].value == 16_384
    assert found.numbers["resnet18.block3.flattened"].value == 0


def test_the_exact_solution_solves_the_equation_and_the_printed_one_nearly():
    t = np.linspace(0, 0.1, 1001)
    step = 1e-7
    derivative = (euler.exact(t + step) - euler.exact(t - step)) / (2 * step)
    np.testing.assert_allclose(derivative, euler.slope(t, euler.exact(t)), atol=1e-4)
    assert euler.exact(0.0) == pytest.approx(0, abs=1e-15)
    assert 1e-7 < np.abs(euler.printed(t) - euler.exact(t)).max() < 5e-6


def test_euler_is_stable_below_two_thousandths_and_not_beyond():
    for h, stable in ((0.0015, True), (0.0019, True), (0.0021, False)):
        times, values = euler.explicit_euler(euler.slope, 0.0, h, 1.0)
        error = np.abs(values - euler.exact(times))
        assert (error[-1] < 1e-4) == stable
    assert times[-1] == pytest.approx(1.0, abs=h)


def test_an_error_of_euler_is_multiplied_by_its_factor():
    times, values = euler.explicit_euler(euler.slope, 0.0, 0.0015, 0.006)
    error = values - euler.exact(times)
    slow = np.array([euler.exact(t + 0.0015) - euler.exact(t) - 0.0015 * euler.slope(t, euler.exact(t)) for t in times])
    np.testing.assert_allclose(error[1:], -0.5 * error[:-1] - slow[:-1], atol=1e-12)
    assert len(times) == 5


def test_the_share_of_indices_in_both_windows_is_that_of_random_slices_that_are_not_zero():
    torch.manual_seed(0)
    for stride, size in ((1, 8), (2, 8), (1, 2)):
        one = torch.nn.Conv2d(1, 1, 3, stride=stride, padding=1, bias=False).double()
        two = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
        x = torch.zeros(1, 1, size, size, dtype=torch.float64)
        jacobian = torch.func.jacrev(torch.nn.Sequential(one, two))(x)[0, 0, :, :, 0, 0].detach()
        share = float((torch.linalg.eigvals(jacobian).abs() > 1e-6).double().mean())
        assert geometry.overlap_share(size, size // stride) == pytest.approx(share, abs=0.02)


def test_a_flow_on_the_line_is_bound_by_isotonic_regression_and_a_residual_net_is_not():
    y = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    assert odenet.best_increasing_error(y) == pytest.approx(1 / 6)
    assert odenet.best_increasing_error(y.sort(0).values) == 0
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    field = Field(3)
    assert fit(lambda v: residual_net(field, v, 1), field, x, y, 200) < 0.02


@ODE
def test_euler_steps_converge_to_the_flow_in_first_order():
    field, x = Field(0), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    with torch.no_grad():
        flow = ode_net(field, x)
        errors = [float((residual_net(field, x, n) - flow).norm()) for n in (16, 32, 64, 128)]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1, atol=0.1)
    assert (flow.diff(dim=0) > 0).all()


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchdiffeq", None)
    with pytest.raises(InputError, match=r"resdyn\[ode\]"):
        ode_net(Field(0), torch.zeros(1, 1, dtype=torch.float64))


def test_printed_numbers_are_the_papers():
    np.testing.assert_array_equal(
        printed(["resnet18.block8.slices.stiffness_index", "resnet50.block16.slices.percent_negative", "none"]),
        [-12.99, 31.96, np.nan],
    )
    assert len({c.number for e in PAPER.experiments.values() for c in e.claims}) == sum(
        len(e.claims) for e in PAPER.experiments.values()
    )


@pytest.mark.parametrize(("table", "layers", "count"), [("table 2", 18, 8), ("table 5", 34, 16)])
def test_the_papers_rows_of_all_blocks_are_the_means_of_its_blocks(table, layers, count):
    for quantity in measure.QUANTITIES:
        rows = printed([f"resnet{layers}.block{n}.slices.{quantity}" for n in range(1, count + 1)])
        (whole,) = printed([f"resnet{layers}.all.slices.{quantity}"])
        assert rows.mean() == pytest.approx(whole, abs=0.01), table


def test_blocks_are_averaged_over_images_and_the_end_compared_with_the_beginning(lab, synthetic):
    for quantity in measure.QUANTITIES:
        blocks.record_blocks(lab, "net", "slices", quantity, synthetic)
    numbers = lab.result.numbers
    assert numbers["net.block3.slices.stiffness_index"].value == pytest.approx(-4, rel=0.01)
    assert numbers["net.block3.slices.percent_negative"] == Number(None, n=0, over="test images", note="not measured")
    assert numbers["net.all.slices.stiffness_index_ratio"].value == pytest.approx(3.0, rel=1e-4)
    assert numbers["net.all.slices.percent_negative"].value == pytest.approx(3.0)


def test_labels_are_told_apart_where_they_matter_and_not_where_they_do_not(lab, synthetic):
    for quantity in measure.QUANTITIES:
        labels.record_labels(lab, "net", "flattened", quantity, synthetic)
    numbers = lab.result.numbers
    assert numbers["net.label4.flattened.percent_negative"].value == pytest.approx(5.0)
    assert numbers["net.all.flattened.percent_negative_label_variation"].value == pytest.approx(2**0.5 / 3, rel=1e-3)
    assert numbers["net.all.flattened.stiffness_index_label_variation"].value < 0.02
    assert numbers["net.all.flattened.stiffness_index_block_variation"].value == pytest.approx(0.535, abs=0.01)
    assert numbers["net.all.flattened.stiffness_index_label_p"].value > 0.01


def test_correlations_are_scipys_and_corrected_as_one_family(lab, synthetic):
    correlation.record_correlations(lab, "net", "slices", synthetic)
    numbers = lab.result.numbers
    index, loss = synthetic["stiffness_index_slices"].values[:, 1], synthetic["loss"].values
    expected = pearsonr(index, loss).statistic
    assert numbers["net.block2.slices.r_loss_stiffness_index"].value == pytest.approx(expected, rel=1e-4)
    assert numbers["net.last.slices.r_loss_stiffness_size"].value == pytest.approx(-expected, rel=1e-4)
    assert numbers["net.block1.slices.r_loss_percent_negative"].value == pytest.approx(1.0)
    assert numbers["net.block3.slices.r_loss_percent_negative"].value is None
    assert numbers["net.all.slices.significant_holm_loss_percent_negative"].value == 2
    accuracy = correlation.outcomes(synthetic)["accuracy"]
    assert accuracy.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0] * 2


def test_robustness_goes_with_what_it_was_made_of(lab, synthetic):
    beyond.record_robustness(lab, "net", "flattened", synthetic)
    numbers = lab.result.numbers
    assert numbers["net.block1.flattened.rho_percent_negative_noise_amplitude"].value == pytest.approx(-1.0)
    assert numbers["net.last.flattened.rho_stiffness_index_gradient_amplitude"].value == pytest.approx(1.0)
    assert numbers["net.all.flattened.significant_stiffness_index_gradient_amplitude"].value == 3


def test_both_readings_of_a_block_are_the_eigenvalues_that_they_say(folder):
    lab = Lab(Result("stiffness", "x", "tiny", folder / "y.json"), folder, quiet=True)
    network = lab.trained(TINY)
    ds = measure.stiffness(lab, network, 4)
    test = lab.test_images(network)
    x = test.inputs([int(ds["sample"][0])])
    h = network.model.input_map(x)
    for number, block in enumerate(network.model.blocks):
        jacobian = torch.func.jacrev(lambda v, b=block: b(v[None])[0])(h[0].detach()).detach().double()
        for reading, stack in (("slices", jacobian), ("flattened", jacobian.flatten(3).flatten(0, 2))):
            index = float(ds[f"stiffness_index_{reading}"][0, number])
            share = float(ds[f"percent_negative_{reading}"][0, number])
            if stack.shape[-1] != stack.shape[-2]:
                assert np.isnan([index, share]).all()
                continue
            real = torch.linalg.eigvals(stack).real
            if real.min() < -1e-4:  # beyond rounding
                assert index == pytest.approx(float(real.max() / real.min()), rel=1e-3)
            assert share == pytest.approx(100 * float((real < 0).double().mean()), abs=3)
        h = block(h)


def test_published_weights_classify_the_test_images_that_they_are_measured_at(data_root):
    if not os.environ.get("RESDYN_MODELS"):
        pytest.skip("RESDYN_MODELS names no folder of weights")
    entry = published(20)
    test = entry.images_of("test", str(data_root)).subset(range(300))
    model, preprocessing = entry.build(test)
    assert accuracy(model, test.prepared(preprocessing)) > 0.75  # published 0.92; these images are JPEG
    assert preprocessing.mean == model.mean


def test_a_pretrained_network_says_where_its_weights_are_looked_for(monkeypatch):
    monkeypatch.delenv("RESDYN_MODELS", raising=False)
    entry = Pretrained("cifar_resnet20", "digits", "cifar_resnet/resnet20.safetensors")
    with pytest.raises(InputError, match="RESDYN_MODELS is not set"):
        entry.build(entry.images_of("test"))
    assert entry.name == "cifar_resnet20.digits.resnet20"


def test_the_slices_of_the_null_are_those_of_the_probe(lab):
    network = lab.untrained(TINY)
    test = lab.test_images(network)
    ds = lab.measured(network, "trajectory,spectrum(slices=true)", 1, state="untrained", data=test)
    probe, alone = metrics.stiffness(ds), measure.slices_alone(lab, network, test, 1)
    for name in (f"{quantity}_slices" for quantity in measure.QUANTITIES):
        assert alone[name].values == pytest.approx(probe[name].transpose("sample", "block").values, rel=1e-4)
    assert (alone["prediction"].values == ds["prediction"].values).all()
