"""Singular values of chains in intervals that hold them, and exponents of streams beside dense derivatives."""

import mpmath
import numpy as np
import pytest
import torch

import resdyn
from resdyn.errors import InputError
from resdyn.linalg import DenseOperator, chain_singular_values
from resdyn.metrics import summarize, transport_structures


def operators(matrices):
    return [DenseOperator(torch.from_numpy(np.ascontiguousarray(A))) for A in matrices]


def exact(matrices):
    """Logarithms of the singular values of the product, in 120 digits."""
    with mpmath.workdps(120):
        product = mpmath.eye(matrices[0].shape[1])
        for A in matrices:
            product = mpmath.matrix(A.astype(float).tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return np.array([float(mpmath.log(s)) if s > mpmath.mpf(10) ** -100 else -np.inf for s in values])


def chain(kind, rng, n, length):
    for _ in range(length):
        G = rng.standard_normal((n, n))
        Q = np.linalg.qr(G)[0]
        yield {
            "near the identity": np.eye(n) + 0.2 * G / n**0.5,
            "random": G / n**0.5,
            "graded": np.diag(10.0 ** -np.linspace(0, 2, n)) @ (np.eye(n) + 0.2 * G / n**0.5),
            "masked": np.diag((rng.random(n) < 0.8) * 1.0) @ (np.eye(n) + 0.5 * G / n**0.5),
            "turned": Q @ np.diag(10.0 ** rng.uniform(-2, 2, n)) @ np.linalg.qr(rng.standard_normal((n, n)))[0],
            "orthogonal": Q * rng.uniform(0.5, 2),
        }[kind]


KINDS = ("near the identity", "random", "graded", "masked", "turned", "orthogonal")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_interval_holds_the_exact_logarithm(kind, dtype):
    rng = np.random.default_rng(KINDS.index(kind))
    for n, length in ((2, 1), (5, 4), (7, 8)):
        matrices = [A.astype(dtype) for A in chain(kind, rng, n, length)]
        found, values = chain_singular_values(operators(matrices)), exact(matrices)
        assert (found.lower.numpy() <= values).all()
        assert (values <= found.upper.numpy()).all()
        assert (np.sort(found.upper.numpy())[::-1] == found.upper.numpy()).all()
        if kind in ("near the identity", "random", "orthogonal"):
            np.testing.assert_allclose(found.logs.numpy(), values, atol=1e-4)
        assert np.isnan(found.logs.numpy()[np.isneginf(values)]).all()


def test_values_far_below_the_largest_keep_their_digits():
    """A value of 1e-11 s_1: the explicit product in double precision has it to 1e-5 at best."""
    rng = np.random.default_rng(0)
    matrices = [np.diag([1.0, 10.0**-2.75]) @ (np.eye(2) + 0.1 * rng.standard_normal((2, 2))) for _ in range(4)]
    found = chain_singular_values(operators(matrices))
    np.testing.assert_allclose(found.logs.numpy(), exact(matrices), atol=1e-4)
    assert float((found.upper - found.lower).max()) < 1e-2


def test_products_that_are_off_widen_the_intervals():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((4, 4))
    sloppy = resdyn.linalg.FunctionOperator(
        (4, 4),
        torch.float64,
        "cpu",
        lambda X: torch.from_numpy(A + 1e-5) @ X,
        lambda Y: torch.from_numpy(A - 1e-5).T @ Y,
    )
    found, values = chain_singular_values([sloppy] * 3), exact([A] * 3)
    assert ((found.lower.numpy() <= values) & (values <= found.upper.numpy())).all()
    assert float((found.upper - found.lower).min()) > 1e-5


def test_the_largest_of_a_larger_chain_and_of_one_that_is_not_square():
    rng = np.random.default_rng(2)
    square = [np.eye(600) + 0.5 * rng.standard_normal((600, 600)) / 600**0.5 for _ in range(3)]
    narrow = [rng.standard_normal((30, 40)), rng.standard_normal((20, 30))]
    for matrices, k in ((square, 3), (narrow, 5)):
        found = chain_singular_values(operators(matrices), k)
        values = np.log(np.linalg.svd(np.linalg.multi_dot(matrices[::-1]), compute_uv=False)[:k])
        assert ((found.lower.numpy() <= values) & (values <= found.upper.numpy())).all()
        assert 0 < found.failure_probability <= 1e-6 or k == 5


@pytest.mark.parametrize(
    ("factors", "k", "words"),
    [
        ([], None, "got no factors"),
        ([np.ones((2, 3)), np.ones((3, 3))], 1, "do not fit"),
        ([np.ones((2, 3))], None, "expected square ones"),
        ([np.eye(3)], 4, "got k=4"),
    ],
)
def test_what_is_no_chain_is_refused(factors, k, words):
    with pytest.raises(InputError, match=words):
        chain_singular_values(operators(factors), k)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_exponents_of_a_stream_are_those_of_the_modules_own_derivative(dtype):
    torch.manual_seed(0)
    net = resdyn.nets.ResidualMLP(in_features=6, width=6, depth=5, classes=3).eval()
    data = torch.randn(3, 6)
    ds = resdyn.capture(net.to(dtype), data.to(dtype), "lyapunov", store=None, samples=range(3), show_progress=False)
    reference, stream = net.double(), resdyn.find_stream(net, data.double())
    states = stream.states(data.double())
    for n in range(3):
        J = torch.func.jacrev(lambda h: run_blocks(reference, h))(states[0][n][None])[0, :, 0]
        with np.errstate(divide="ignore"):
            values = np.log(np.linalg.svd(J.detach().numpy(), compute_uv=False)) / 5
        resolved = np.isfinite(ds["lyapunov_exponent"].values[n])
        slack = 0 if dtype == torch.float64 else 1e-6
        assert (ds["lyapunov_lower"].values[n] - slack <= values).all()
        assert (values <= ds["lyapunov_upper"].values[n] + slack).all()
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        np.testing.assert_allclose(ds["lyapunov_exponent"].values[n][resolved], values[resolved], atol=tolerance)
    rows = {row.name: row.value for row in summarize(ds)}
    assert rows["largest_lyapunov_exponent"] == pytest.approx(float(ds["lyapunov_exponent"][:, 0].mean()))
    assert "lyapunov_exponents" in ds.resdyn.figures()


def run_blocks(net, h):
    for block in net.blocks:
        h = block(h)
    return h


def test_for_one_sample_the_mean_transport_has_the_same_exponents():
    torch.manual_seed(1)
    net = resdyn.nets.LogisticResNet(in_features=6, width=5, depth=4, classes=3).double().eval()
    data = torch.randn(1, 6).double()
    lens = resdyn.transport(net, data, reduction="flat", show_progress=False)
    ds = resdyn.capture(net, data, "lyapunov", store=None, samples=1, show_progress=False)
    np.testing.assert_allclose(transport_structures(lens.dataset)["exponent"][0], ds["lyapunov_exponent"][0], atol=1e-9)
