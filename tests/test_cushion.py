"""Norms by products alone, cushions against dense float64 references, and noise that is really added."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian as dense_jacobian

from cases import operators, with_spectrum
from resdyn import capture, find_stream, metrics, open, stream_from_blocks, write_report
from resdyn.errors import InputError
from resdyn.linalg import DenseOperator, frobenius_norm
from resdyn.nets import ResidualMLP, SimplifiedNet
from resdyn.nets.unit_skip import identity_kernel
from resdyn.probes import Cushion, Sample
from resdyn.report import figures
from resdyn.stream.tail import rows_of, tail_jacobian
from synthetic import synthetic_dataset


@pytest.mark.parametrize("name", operators(torch.float64))
def test_the_norm_of_a_small_operator_is_exact(name):
    operator, matrix = operators(torch.float64)[name]
    before = operator.num_matvecs
    found = frobenius_norm(operator)
    assert found.exact
    assert found.error == 0
    assert found.value == pytest.approx(float(matrix.norm()), rel=1e-12)
    assert found.num_matvecs == min(matrix.shape) == operator.num_matvecs - before


def test_hutchinsons_estimate_lies_within_its_error_and_its_error_is_right():
    matrix = with_spectrum(60, 80, 0.9 ** torch.arange(60).double(), torch.float64)
    truth = float(matrix.norm())
    found = [frobenius_norm(DenseOperator(matrix), draws=24, seed=s, exact_limit=0) for s in range(60)]
    assert all(not f.exact and f.num_matvecs == 24 for f in found)
    scores = np.array([(f.value - truth) / f.error for f in found])
    assert abs(scores.mean()) < 0.5
    assert 0.7 < scores.std() < 1.5


def test_an_orthogonal_matrix_needs_no_luck_and_zero_has_norm_zero():
    q = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    found = frobenius_norm(DenseOperator(q), exact_limit=0)
    assert found.value == pytest.approx(30**0.5)
    assert found.error < 1e-9
    assert frobenius_norm(DenseOperator(torch.zeros(4, 5)), exact_limit=0).value == 0
    with pytest.raises(InputError, match="at least 2"):
        frobenius_norm(DenseOperator(q), draws=1)


def test_cushions_are_ratios_with_known_answers():
    assert metrics.layer_cushion([6.0, 1.0], [2.0, 0.0], [3.0, 1.0])[0] == 1.0
    assert np.isnan(metrics.layer_cushion(1.0, 0.0, 1.0))
    x = np.random.default_rng(0).standard_normal(50)
    rank_one = np.outer(np.ones(3), x)
    attained = metrics.interlayer_cushion(
        np.linalg.norm(rank_one @ x), np.linalg.norm(rank_one), np.linalg.norm(x), x.size
    )
    assert attained == pytest.approx(50**0.5)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    made = SimplifiedNet(8, classes=3, width=2, image_size=8).double().eval()
    with torch.no_grad():
        for block in made.blocks:
            block.branch.weight.normal_(0, 0.2)
            block.branch.bias.normal_(0, 0.1)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def x():
    return torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def measured(model, x, stream=None, **settings):
    stream = stream or find_stream(model, x)
    probe = Cushion(**settings)
    arrays = probe.measure(Sample(stream, stream.states(x), 0, 5, "gated", 0, None), 3)
    layout = probe.layout(stream, 3)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: shape for name, (_, shape, _) in layout.items()
    }
    return arrays


def test_layer_norms_are_those_of_the_convolutions(net, x):
    found, h = measured(net, x), net.input_map(x)
    for i, block in enumerate(net.blocks):
        conv = block.branch
        product = conv(h) - conv.bias[:, None, None]
        skipped = product + block.shortcut(h)
        np.testing.assert_allclose(found["layer_input_norm"][i, 0], h.norm(), rtol=1e-12)
        np.testing.assert_allclose(found["layer_output_norm"][i, 0], product.norm(), rtol=1e-12)
        np.testing.assert_allclose(found["layer_weight_norm"][i, 0], conv.weight.norm(), rtol=1e-12)
        np.testing.assert_allclose(found["skip_output_norm"][i], skipped.norm(), rtol=1e-12)
        whole = conv.weight + identity_kernel(conv.weight)
        np.testing.assert_allclose(found["skip_weight_norm"][i], whole.norm(), rtol=1e-12)
        h = block(h)


def test_spans_are_the_dense_jacobians_between_any_two_blocks_and_to_the_output(net, x):
    found, h = measured(net, x, exact_limit=512), net.input_map(x)
    states = [h]
    for block in net.blocks:
        states.append(block(states[-1]))
    for i in range(len(net.blocks)):
        for j in range(len(net.blocks)):
            if j < i:
                assert np.isnan(found["span_jacobian_norm"][i, j])
                continue
            J = dense_jacobian(net.blocks[i : j + 1], states[i]).reshape(states[j + 1].numel(), -1)
            np.testing.assert_allclose(found["span_jacobian_norm"][i, j], J.norm(), rtol=1e-10)
            np.testing.assert_allclose(found["span_product_norm"][i, j], (J @ states[i].flatten()).norm(), rtol=1e-10)
        out = dense_jacobian(lambda s, i=i: net.classifier(net.blocks[i:](s).mean((2, 3))), states[i]).reshape(3, -1)
        np.testing.assert_allclose(found["output_jacobian_norm"][i], out.norm(), rtol=1e-10)
    assert np.nanmax(found["span_jacobian_error"]) == 0


def test_estimated_spans_agree_within_their_errors_and_the_output_stays_exact(net, x):
    exact, found = measured(net, x), measured(net, x, exact_limit=16, draws=64)
    known = np.isfinite(exact["span_jacobian_norm"])
    gap = np.abs(exact["span_jacobian_norm"] - found["span_jacobian_norm"])[known]
    assert (found["span_jacobian_error"][known] > 0).all()
    assert (gap < 5 * found["span_jacobian_error"][known] + 1e-12).all()
    np.testing.assert_allclose(found["output_jacobian_norm"], exact["output_jacobian_norm"], rtol=1e-10)
    np.testing.assert_allclose(found["span_product_norm"], exact["span_product_norm"], rtol=1e-12)


def test_blocks_of_several_layers_have_a_cushion_for_each_and_none_with_the_skip():
    torch.manual_seed(0)
    model = ResidualMLP(in_features=5, width=6, depth=2, classes=3).double().eval()
    found = measured(model, torch.randn(1, 5, dtype=torch.float64))
    assert found["layer_weight_norm"].shape == (2, 2)
    assert np.isnan(found["skip_output_norm"]).all()
    np.testing.assert_allclose(found["layer_weight_norm"][1, 1], model.blocks[1].branch.map2.weight.detach().norm())


def test_layers_written_as_products_are_layers_too():
    class Products(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.ParameterList(torch.randn(5, 5, dtype=torch.float64) for _ in range(2))
            self.bias = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))

        def forward(self, x):
            for weight in self.weights:
                x = torch.tanh(x + torch.addmm(self.bias, x, weight))
            return x

    model, x = Products().eval(), torch.randn(1, 5, dtype=torch.float64)
    found = measured(model, x)
    np.testing.assert_allclose(found["layer_output_norm"][0, 0], (x @ model.weights[0]).detach().norm())
    whole = (x @ model.weights[0] + x).detach().norm()
    np.testing.assert_allclose(found["skip_output_norm"][0], whole)


def test_plain_layers_named_by_hand_are_measured_too(x):
    torch.manual_seed(0)
    plain = SimplifiedNet(5, width=2, image_size=8, skip=False).double().eval()
    stream = stream_from_blocks(plain, ["blocks.0", "blocks.1", "blocks.2"], x, skip="none")
    found = measured(plain, x, stream)
    assert np.isfinite(found["layer_weight_norm"]).all()
    assert np.isnan(found["skip_weight_norm"]).all()


def test_a_tail_is_all_that_follows_a_state(net, x):
    stream = find_stream(net, x)
    operator, sizes = tail_jacobian(stream, 4, stream.states(x))
    assert sizes == (32, 32, 3)
    assert [rows.stop - rows.start for rows in rows_of(sizes)] == [32, 32, 3]
    assert operator.shape == (67, 64)
    with pytest.raises(InputError, match="belongs to one sample"):
        tail_jacobian(stream, 0, stream.states(torch.cat([x, x])))


def test_a_store_of_the_probe_gives_all_cushions(net, tmp_path):
    inputs, labels = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 3
    capture(net, (inputs, labels), "trajectory,cushion(draws=8)", tmp_path / "a.zarr", samples=4, show_progress=False)
    ds = open(tmp_path / "a.zarr")
    found = metrics.cushions(ds)
    assert found["layer_cushion"].dims == ("sample", "block", "part")
    assert found["interlayer_cushion"].sizes == {"sample": 4, "block": 6, "block_j": 6}
    assert (found["block_cushion"] > 0).all()
    np.testing.assert_allclose(found["block_cushion"][0, 2], found["interlayer_cushion"][0, 2, 2])
    ratio = found["plain_cushion"] / found["residual_cushion"]
    np.testing.assert_allclose(ratio, (ds["layer_weight_norm"][:, :, 0] / ds["skip_weight_norm"]).values, rtol=1e-12)
    rows = {row["name"]: row for row in metrics.metrics_table(ds)}
    assert rows["least_layer_cushion"]["value"] == pytest.approx(float(found["layer_cushion"].min()))
    assert rows["block_cushion"]["n"] == 4
    page = write_report(ds, tmp_path / "report.html", figures_dir=tmp_path / "figures").read_text(encoding="utf-8")
    assert "How much noise do the layers pass on?" in page
    assert {"layer_cushion.pdf", "block_cushion.pdf", "output_cushion.pdf", "cushion_histogram.pdf"} <= {
        path.name for path in (tmp_path / "figures").iterdir()
    }


@pytest.mark.parametrize("samples", [1, 4])
def test_layers_without_a_cushion_keep_their_places_in_the_figures_and_a_report_can_be_without_any(samples, tmp_path):
    ds = synthetic_dataset(probes=("trajectory", "cushion"), n_samples=4).isel(sample=slice(samples))
    ds["layer_weight_norm"][{"block": 0}] = 0.0
    layers = int(ds["layer_weight_norm"][0].notnull().sum())
    shown = figures.layer_cushion(ds)
    assert shown.layout.xaxis.range == (0.5, layers + 0.5)
    ds["layer_weight_norm"][:] = 0.0
    assert figures.cushion_histogram(ds) is None
    assert "How much noise" in write_report(ds, tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [{"draws": 1}, {"draws": 2.5}, {"exact_limit": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match="cushion: got"):
        Cushion(**settings)
