"""Probes against dense float64 references that are made from the model itself, not from its stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import jacrev

from resdyn.errors import InputError
from resdyn.linalg import DenseOperator
from resdyn.nets import ResidualCNN, ResidualMLP
from resdyn.probes import Coupling, Features, Sample, Singular, Trajectory, fit_probes, parse_probes, resolve_probes
from resdyn.probes.sample import block_seed
from resdyn.stream import find_stream
from resdyn.stream.arguments import Arguments

CLASSES = 3
EXACT = Singular(k=4, method="dense", vectors=True)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return trained(ResidualMLP(in_features=5, width=6, depth=3, classes=CLASSES).double())


@pytest.fixture(scope="module")
def stream(net):
    return find_stream(net, torch.randn(1, 5, dtype=torch.float64))


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(20) % CLASSES
    inputs = torch.randn(20, 5, dtype=torch.float64, generator=generator) + labels[:, None]
    return inputs, labels


def trained(net):
    """Batch norm statistics as after training, not the zeros and ones of a fresh net."""
    for module in net.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval().requires_grad_(False)


def sample_of(stream, x, probe=EXACT, label=1, kind="gated"):
    return Sample(stream, stream.states(x[None]), label, 7, kind, 0, probe.svd)


def hidden(net, x):
    """h_0..h_L by running the modules of the net one by one."""
    states = [net.input_map(x)]
    for block in net.blocks:
        states.append(block(states[-1]))
    return states


def gated_jacobian(block, h):
    mask = (block.shortcut(h) + block.branch(h) > 0).to(h.dtype).flatten()
    return mask[:, None] * jacrev(lambda v: block.branch(v[None])[0])(h[0]).reshape(mask.numel(), -1)


def test_a_trajectory_is_the_states_the_answer_and_the_loss(net, stream, data):
    measured = Trajectory().measure(sample_of(stream, data[0][0]), CLASSES)
    np.testing.assert_allclose(measured["states"], torch.cat(hidden(net, data[0][:1])), atol=1e-12)
    logits = net(data[0][:1])[0]
    assert measured["prediction"] == logits.argmax()
    np.testing.assert_allclose(measured["loss"], -logits.log_softmax(0)[1], rtol=1e-12)


def test_a_loss_against_logits_of_other_classes_is_not_invented(stream, data):
    assert np.isnan(Trajectory().measure(sample_of(stream, data[0][0]), CLASSES + 1)["loss"])


def test_singular_triplets_are_those_of_the_dense_jacobian(net, stream, data):
    measured = EXACT.measure(sample_of(stream, data[0][0]), CLASSES)
    for i, h in enumerate(hidden(net, data[0][:1])[:-1]):
        jacobian = gated_jacobian(net.blocks[i], h).numpy()
        np.testing.assert_allclose(measured["singular_values"][i], np.linalg.svd(jacobian)[1][:4], atol=1e-12)
        scaled = measured["left_vectors"][i].T * measured["singular_values"][i]
        np.testing.assert_allclose(jacobian @ measured["right_vectors"][i].T, scaled, atol=1e-12)
    assert measured["singular_converged"].all()
    assert measured["singular_residuals"].max() < 1e-12


def test_lanczos_finds_the_dense_values(stream, data):
    dense = EXACT.measure(sample_of(stream, data[0][0]), CLASSES)
    probe = Singular(k=4, tol=1e-8)
    lanczos = probe.measure(sample_of(stream, data[0][0], probe), CLASSES)
    np.testing.assert_allclose(lanczos["singular_values"], dense["singular_values"], atol=1e-8)
    assert (lanczos["singular_matvecs"] > 0).all()


def test_coupling_is_the_exact_jacobian_in_the_bases_of_every_block(net, stream, data):
    sample = sample_of(stream, data[0][0])
    measured = Coupling(k=3).measure(sample, CLASSES)
    bases = [(t.U[:, :3].numpy(), t.V[:, :3].numpy()) for t in sample.triplets]
    for i, h in enumerate(hidden(net, data[0][:1])[:-1]):
        jacobian, (ui, vi) = gated_jacobian(net.blocks[i], h).numpy(), bases[i]
        for j, (uj, vj) in enumerate(bases):
            expected = {
                "coupling_uv": uj.T @ jacobian @ vj,
                "coupling_vu": vj.T @ jacobian @ uj,
                "overlap_uu": ui.T @ uj,
                "overlap_vv": vi.T @ vj,
                "overlap_uv": ui.T @ vj,
            }
            for name, value in expected.items():
                np.testing.assert_allclose(measured[name][i, j], value, atol=1e-12, err_msg=f"{name}[{i}, {j}]")


def test_a_matrix_that_was_formed_for_the_triplets_serves_later_products_of_the_same_reading(net, stream, data):
    lanczos = Singular(k=4, method="lanczos")
    for probe, formed in ((EXACT, True), (lanczos, False)):
        sample = sample_of(stream, data[0][0], probe)
        assert len(sample.triplets) == len(stream)
        for i, h in enumerate(hidden(net, data[0][:1])[:-1]):
            jacobian = sample.jacobian(i)
            assert isinstance(jacobian, DenseOperator) == formed
            torch.testing.assert_close(jacobian.to_dense(), gated_jacobian(net.blocks[i], h))
            assert not isinstance(sample.jacobian(i, "branch"), DenseOperator)


def test_a_block_is_diagonal_in_its_own_bases(stream, data):
    sample = sample_of(stream, data[0][0])
    coupling = Coupling(k=4).measure(sample, CLASSES)["coupling_uv"]
    for i, triplets in enumerate(sample.triplets):
        np.testing.assert_allclose(coupling[i, i], np.diag(triplets.S), atol=1e-12)


@pytest.fixture(scope="module")
def staged():
    """Blocks 0 and 1 work on 2 channels of 4x4 pixels, block 2 goes to 4 of 2x2, block 3 stays there."""
    torch.manual_seed(0)
    net = trained(ResidualCNN(in_channels=1, width=2, depth=4, classes=2, image_size=8, downsample=True).double())
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    return net, find_stream(net, x), x[0]


def test_states_of_different_sizes_are_padded_with_nan(staged):
    net, stream, x = staged
    states = Trajectory().measure(sample_of(stream, x), 2)["states"]
    assert states.shape == (5, 32)
    for row, h in zip(states, hidden(net, x[None])):
        np.testing.assert_allclose(row[: h.numel()], h.flatten(), atol=1e-12)
        assert np.isnan(row[h.numel() :]).all()


def test_blocks_between_different_shapes_have_singular_values(staged):
    net, stream, x = staged
    measured = EXACT.measure(sample_of(stream, x), 2)
    jacobian = gated_jacobian(net.blocks[2], hidden(net, x[None])[2])
    assert jacobian.shape == (16, 32)
    np.testing.assert_allclose(measured["singular_values"][2], torch.linalg.svdvals(jacobian)[:4], atol=1e-12)
    assert np.isnan(measured["left_vectors"][2, :, 16:]).all()
    assert not np.isnan(measured["right_vectors"][2]).any()


def test_only_blocks_of_equal_shapes_are_coupled(staged):
    _, stream, x = staged
    measured = Coupling(k=2).measure(sample_of(stream, x), 2)
    known = {name: ~np.isnan(values).any(axis=(2, 3)) for name, values in measured.items()}
    alike = np.zeros((4, 4), dtype=bool)
    alike[:2, :2] = alike[2, 2] = alike[3, 3] = True
    square = alike & (np.arange(4) != 2)
    for name in ("coupling_uv", "overlap_uu", "overlap_vv"):
        np.testing.assert_array_equal(known[name], alike)
    for name in ("coupling_vu", "overlap_uv"):
        np.testing.assert_array_equal(known[name], square)


def test_seeds_depend_on_seed_sample_and_block_alone():
    seeds = {block_seed(*key) for key in [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (0, 1, 3)]}
    assert len(seeds) == 5
    assert block_seed(0, 1, 2) == block_seed(0, 1, 2)


def test_k_beyond_a_blocks_size_names_the_block(stream):
    with pytest.raises(InputError, match=r"k=7, but the Jacobian of block 0 \(blocks.0.*\) has 6 singular values"):
        fit_probes([Singular(k=7)], stream)


def features_of(stream, data, batch_size, classes=CLASSES):
    inputs, labels = data

    def batches():
        return zip(map(Arguments.of, inputs.split(batch_size)), labels.split(batch_size))

    return Features(batch_size).measure(stream, batches, classes)


def test_class_means_and_scatter_are_those_of_all_states_at_once(net, stream, data):
    measured = features_of(stream, data, 7)
    for depth, h in enumerate(hidden(net, data[0])):
        expected = class_statistics(h.numpy(), data[1].numpy(), net(data[0]).argmax(1).numpy())
        for name, value in expected.items():
            np.testing.assert_allclose(measured[name][depth], value, rtol=1e-10, atol=1e-12, err_msg=name)
    assert measured["num_images"] == 20
    assert measured["class_count"].tolist() == [7, 7, 6]


def test_the_classifier_and_what_it_reads_are_measured_like_a_state(net, stream, data):
    measured = features_of(stream, data, 20)
    np.testing.assert_allclose(measured["feature_mean"], measured["class_mean"][-1], atol=1e-12)
    np.testing.assert_allclose(measured["feature_within_projected"], measured["within_projected"][-1], atol=1e-12)
    np.testing.assert_array_equal(measured["classifier_weight"], net.classifier.weight)
    np.testing.assert_array_equal(measured["classifier_bias"], net.classifier.bias)


def test_a_class_without_images_is_nan_and_changes_no_other(stream, data):
    few, more = features_of(stream, data, 20), features_of(stream, data, 20, CLASSES + 1)
    np.testing.assert_allclose(more["class_mean"][:, :CLASSES], few["class_mean"], atol=1e-12)
    np.testing.assert_allclose(more["within_projected"][:, :CLASSES, :CLASSES], few["within_projected"], atol=1e-12)
    assert np.isnan(more["class_mean"][:, CLASSES]).all()
    assert np.isnan(more["within_projected"][:, CLASSES]).all()
    np.testing.assert_array_equal(more["nearest_mean_accuracy"], few["nearest_mean_accuracy"])


def test_logits_of_other_classes_agree_with_nothing(stream, data):
    more = features_of(stream, data, 20, CLASSES + 1)
    assert np.isnan(more["nearest_mean_agrees"]).all()
    assert "classifier_weight" not in more


def test_every_array_of_features_has_its_place_in_the_layout(stream, data):
    measured, layout = features_of(stream, data, 20), Features().layout(stream, CLASSES)
    assert {name: values.shape for name, values in measured.items()} == {n: v[1] for n, v in layout.items()}


def test_means_that_would_not_fit_into_memory_are_refused(stream):
    with pytest.raises(InputError, match=r"memory_limit_gb=1e-09; raise it or leave the probe out"):
        Features(memory_limit_gb=1e-9).layout(stream, CLASSES)


def class_statistics(h, labels, answers):
    means = np.stack([h[labels == c].mean(0) for c in range(CLASSES)])
    deviation = h - means[labels]
    centred = means - means.mean(0)
    nearest = ((h[:, None] - means) ** 2).sum(-1).argmin(1)
    return {
        "class_mean": means,
        "within_trace": [(deviation[labels == c] ** 2).sum(1).mean() for c in range(CLASSES)],
        "within_projected": centred @ (deviation.T @ deviation / len(h)) @ centred.T,
        "nearest_mean_agrees": (nearest == answers).mean(),
        "nearest_mean_accuracy": (nearest == labels).mean(),
    }


def test_probes_are_parsed_with_their_settings():
    assert parse_probes("trajectory,singular(k=30, tol=1e-6, method=dense, vectors=true), coupling") == (
        Trajectory(),
        Singular(k=30, tol=1e-6, method="dense", vectors=True),
        Coupling(),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("singlar", "unknown probe 'singlar'.*Did you mean 'singular'"),
        ("singular(kk=3)", "keys: k, method, tol, vectors"),
        ("singular(3)", "got '3', expected key=value"),
        ("singular(k=0)", "k=0, expected a whole number of at least 1"),
        ("singular(k=many)", "k='many', expected a whole number"),
        ("singular(method=magic)", "method='magic', expected 'auto', 'lanczos', 'randomized' or 'dense'"),
        ("singular(tol=-1)", "tol=-1, expected a positive number"),
        ("features(batch_size=0)", "batch_size=0"),
        ("trajectory,trajectory", "each once"),
        ("(k=3)", "expected a name with settings"),
        ("", "expected a name with settings"),
    ],
)
def test_a_probe_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        resolve_probes(text)


def test_coupling_brings_the_singular_probe_with_it():
    assert resolve_probes("coupling") == (Singular(), Coupling())
    assert resolve_probes([Coupling(), Singular(k=5)]) == (Singular(k=5), Coupling())


def test_numbers_of_triplets_are_decided_by_the_stream(stream):
    assert fit_probes([Singular(), Coupling()], stream) == (Singular(k=6), Coupling(k=6))
    assert fit_probes([Singular(k=5), Coupling(k=2)], stream) == (Singular(k=5), Coupling(k=2))
    with pytest.raises(InputError, match="more than the 5 triplets of singular"):
        fit_probes([Singular(k=5), Coupling(k=6)], stream)
