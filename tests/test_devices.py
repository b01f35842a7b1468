"""Devices and precisions: options, refusals, and no tensor of the CPU among those of another device."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import resdyn.linalg.count
import resdyn.linalg.sign
from pretend_device import DeviceError, PretendDevice
from resdyn import find_stream, linalg, load_model
from resdyn._numerics import plain_arithmetic
from resdyn.cli.app import run
from resdyn.errors import InputError
from resdyn.linalg import DenseOperator
from resdyn.linalg.sign import faster_method as timed_method
from resdyn.models.placement import place, resolve_device
from resdyn.nets import ResidualCNN, ResidualMLP
from resdyn.probes import Sample, Singular, fit_probes, resolve_probes
from resdyn.stream import ResidualBlock
from resdyn.stream.arguments import Arguments
from resdyn.stream.jacobian import JacobianOperator
from resdyn.stream.verify import taken_as_current


def matrix(mode, m=40, n=None, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return mode.put(torch.randn(m, n or m, generator=generator, dtype=torch.float64).to(dtype))


REFUSED = {
    "sum": lambda a: a + torch.ones(3),
    "product": lambda a: torch.eye(3) @ a,
    "cat": lambda a: torch.cat([a, torch.zeros(1)]),
    "numpy": lambda a: a.numpy(),
    "index": lambda a: torch.ones(3)[a.argsort()],
    "generator": lambda a: torch.randn(3, generator=torch.Generator(), device=a.device),
}
ALLOWED = {
    "scalar": lambda a: a * torch.tensor(2.0),
    "indices of the CPU": lambda a: a[torch.tensor([0, 1])],
    "copy": lambda a: a.clone().copy_(torch.ones(3)),
    "moved": lambda a: torch.ones(3).to(a) + a,
    "device": lambda a: torch.ones(3, device=a.device) + a,
    "back": lambda a: a.cpu().numpy(),
    "whole": lambda a: a.cpu() + torch.ones(3),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mixtures_are_refused(case):
    with PretendDevice() as mode, pytest.raises(DeviceError):
        REFUSED[case](mode.put(torch.arange(3.0)))


@pytest.mark.parametrize("case", ALLOWED)
def test_what_a_gpu_allows_is_allowed(case):
    with PretendDevice() as mode:
        ALLOWED[case](mode.put(torch.arange(3.0)))


def triangular(mode, dtype):
    """A matrix in parts, one of them a defective pair, with dead coordinates."""
    parts = [torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.diag(torch.arange(2.0, 30.0)), torch.zeros(3, 3)]
    return mode.put(torch.block_diag(*parts).to(dtype))


def large(mode, dtype, size=250):
    """Beyond what is taken as a dense matrix; a few values lead."""
    leading = torch.diag(torch.cat([torch.arange(20.0, 10.0, -1), torch.linspace(-1, 1, size - 10)]))
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(1)) * 0.1 / size**0.5
    return mode.put((leading + noise).to(dtype))


def low_rank(mode, dtype):
    left, right = torch.randn(2, 120, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return mode.put((left @ right.T).to(dtype))


def convolution(mode, dtype):
    """3 maps of 6 x 6, each output position a mixture of its neighbours."""
    kernel = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    units = torch.eye(108, dtype=torch.float64).reshape(108, 3, 6, 6)
    return mode.put(torch.nn.functional.conv2d(units, kernel, padding=1).reshape(108, 108).T.contiguous().to(dtype))


def bases(mode, dtype):
    return (mode.put(torch.linalg.qr(matrix(mode, 20, 4, dtype, seed).cpu()).Q) for seed in (1, 2))


Op = DenseOperator
ROUTINES = {
    "svd": lambda m, t: linalg.svd(Op(matrix(m, 60, 50, t)), 3),
    "svd of a low rank": lambda m, t: linalg.svd(Op(low_rank(m, t)), 7),
    "svd, lanczos": lambda m, t: linalg.svd(Op(large(m, t)), 3, "lanczos"),
    "svd, restarted": lambda m, t: linalg.svd(Op(large(m, t)), 3, "lanczos", basis_size=14, block_size=2),
    "svd, randomized": lambda m, t: linalg.svd(Op(large(m, t)), 3, "randomized"),
    "svd, dense": lambda m, t: linalg.svd(Op(matrix(m, 60, 50, t)), 3, "dense"),
    "svd of nothing": lambda m, t: linalg.svd(Op(m.put(torch.zeros(200, 200, dtype=t))), 3),
    "eigenvalues": lambda m, t: linalg.eigenvalues(Op(matrix(m, dtype=t)), conditions=True),
    "eigenvalues, in parts": lambda m, t: linalg.eigenvalues(Op(triangular(m, t)), ("LR", "SR"), 2, conditions=True),
    "eigenvalues at the ends": lambda m, t: linalg.eigenvalues(Op(large(m, t)), ("LR", "SR", "LM"), 3, tol=1e-4),
    "eigenvalues, conditions": lambda m, t: linalg.eigenvalues(Op(large(m, t)), "LR", 2, tol=1e-4, conditions=True),
    "numerical abscissa": lambda m, t: linalg.numerical_abscissa(Op(large(m, t)), tol=1e-4),
    "count": lambda m, t: linalg.count_negative(Op(matrix(m, dtype=t))),
    "count, large": lambda m, t: linalg.count_negative(Op(large(m, t))),
    "count of a low rank": lambda m, t: linalg.count_negative(Op(low_rank(m, t))),
    "count by inertia": lambda m, t: linalg.count_negative(Op(large(m, t)), by_inertia=True),
    "distribution": lambda m, t: linalg.spectral_distribution(Op(matrix(m, dtype=t)), num_probes=4, degree=10),
    "pseudo-inverse": lambda m, t: linalg.PseudoInverse(Op(matrix(m, 20, 30, t))) @ matrix(m, 20, 2, t),
    "sign": lambda m, t: linalg.matrix_sign(matrix(m, dtype=torch.float64)),
    "timing": lambda m, t: timed_method("cuda", t, 100),
    "inertia by eigenvalues": lambda m, t: linalg.inertia(matrix(m, dtype=t), method="eigenvalues"),
    "inertia by signs": lambda m, t: linalg.inertia(matrix(m, dtype=t), method="sign"),
    "slices": lambda m, t: linalg.slice_eigenvalues(Op(convolution(m, t)), (3, 6, 6), (3, 6, 6)),
    "departure": lambda m, t: linalg.departure_from_normality(a := matrix(m, dtype=t), torch.linalg.eigvals(a)),
    "commutator": lambda m, t: linalg.commutator(Op(matrix(m, dtype=t)), num_probes=4),
    "norm": lambda m, t: linalg.frobenius_norm(Op(matrix(m, dtype=t))),
    "norm, estimated": lambda m, t: linalg.frobenius_norm(Op(matrix(m, dtype=t)), exact_limit=5),
    "bases": lambda m, t: linalg.orthonormalise(matrix(m, 20, 4, t)),
    "bases, dependent": lambda m, t: linalg.orthonormalise(m.put(torch.ones(20, 4, dtype=t))),
    "angles": lambda m, t: linalg.principal_angles(*bases(m, t)),
    "aligned bases": lambda m, t: linalg.align(*bases(m, t)),
    "composition": lambda m, t: (
        Op(matrix(m, dtype=t)) @ Op(matrix(m, dtype=t)).T + Op(matrix(m, dtype=t)) * 2
    ).to_dense(),
    "restriction": lambda m, t: Op(matrix(m, dtype=t)).restricted(range(3), torch.tensor([1, 5])).to_dense(),
    "restriction of products": lambda m, t: (
        (Op(matrix(m, dtype=t)) @ Op(matrix(m, dtype=t))).restricted([0, 2], [1, 5]) @ matrix(m, 2, 2, t)
    ),
    "scipy": lambda m, t: Op(matrix(m, dtype=t)).to_scipy() @ np.ones(40),
}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Waiting for a device that is not there."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    # Small operators take the ways of large ones.
    monkeypatch.setattr(resdyn.linalg.count, "_DENSE_LIMIT", 60)
    monkeypatch.setattr(resdyn.linalg.count, "_LIST_SIZES", (4, 8))
    monkeypatch.setattr(resdyn.linalg.sign, "faster_method", lambda device, dtype: "sign")


@pytest.mark.parametrize("name", ROUTINES)
def test_numerics_stay_on_the_device_of_their_operator(name):
    with PretendDevice() as mode:
        ROUTINES[name](mode, torch.float32)


NETS = {
    "mlp": (lambda: ResidualMLP(in_features=6, width=8, depth=3, classes=4), (6,)),
    "cnn": (lambda: ResidualCNN(1, width=4, depth=2, classes=4, image_size=8), (1, 8, 8)),
}
PROBES = ["trajectory", "singular(k=3)", "coupling(k=2)", "spectrum", "robustness", "cushion"]


@pytest.fixture
def on_the_device(monkeypatch):
    """Products are of the device, checked where they enter; nothing is traced, since tracing asks for a real device."""

    def moved(mode, product):
        def wrapped(self, X):
            assert mode.place(X) == "cuda", f"a product of a vector on {mode.place(X)}"
            return mode.put(product(self, X))

        return wrapped

    def begin(mode):
        for name in ("_matmat", "_rmatmat"):
            monkeypatch.setattr(JacobianOperator, name, moved(mode, getattr(JacobianOperator, name)))
        monkeypatch.setattr(ResidualBlock, "linear_map", lambda *_: None)

    return begin


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("net", NETS)
def test_probes_stay_on_the_device_of_their_model(net, probe, on_the_device):
    torch.manual_seed(0)
    model, x = NETS[net][0]().eval(), torch.randn(2, *NETS[net][1])
    stream = find_stream(model, x)
    *_, asked = fit_probes(resolve_probes(probe), stream)
    with PretendDevice() as mode, plain_arithmetic(), taken_as_current():
        on_the_device(mode)
        mode.put(model)
        states = stream.states(mode.put(x[:1].clone()))
        arrays = asked.measure(Sample(stream, states, 1, 0, "gated", 0, Singular(k=3).svd), 4)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize("net", NETS)
def test_class_means_stay_on_the_device_of_their_model(net):
    torch.manual_seed(0)
    model, x = NETS[net][0]().eval(), torch.randn(12, *NETS[net][1])
    stream, (features,) = find_stream(model, x[:2]), resolve_probes("features")
    with PretendDevice() as mode, plain_arithmetic(), taken_as_current():
        mode.put(model)
        labels = torch.arange(12) % 4  # of the CPU, as data sets give them

        def batches():
            return ((Arguments.of(mode.put(part.clone())), labels[:6]) for part in x.split(6))

        arrays = features.measure(stream, batches, 4, lambda n: None)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


NET = "resdyn:mlp,in_features=64,width=8,depth=2"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_absent_is_one_line(device, capsys):
    assert run(["inspect", NET, "--device", device]) == 2
    said = capsys.readouterr().err
    assert f"got device {device}, but this PyTorch sees no CUDA device; use device cpu" in said
    assert said.count("\n") == 1


def test_devices_are_named_as_pytorch_names_them():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")
    for wrong in ("gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", ""):
        with pytest.raises(InputError, match="expected auto, cpu, cuda"):
            resolve_device(wrong)


def test_the_automatic_choice_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


def test_a_model_is_cast_and_data_follow(tmp_path, capsys):
    words = ["--data", "digits", "--probes", "trajectory,singular(k=2)", "--samples", "2", "--json", "--device", "cpu"]
    assert run(["capture", NET, "--dtype", "float64", *words, "--out", str(tmp_path / "a.zarr")]) == 0
    provenance = json.loads(capsys.readouterr().out)["provenance"]
    assert (provenance["dtype"], provenance["machine"]["device"]) == ("float64", "cpu")
    double = resdyn.open_store(tmp_path / "a.zarr")
    loaded = load_model(NET, dtype="float64")
    assert loaded.example_input.dtype == next(loaded.model.parameters()).dtype == torch.float64
    assert double["singular_values"].dtype == np.float64
    assert run(["capture", NET, *words, "--out", str(tmp_path / "b.zarr")]) == 0
    single = resdyn.open_store(tmp_path / "b.zarr")
    np.testing.assert_allclose(single["singular_values"], double["singular_values"], rtol=1e-4)
    assert run(["inspect", NET, "--dtype", "float64"]) == 0


def test_a_model_of_a_file_keeps_its_precision_in_workers(tmp_path):
    from resdyn.capturing.worker import ModelSource

    (tmp_path / "net.py").write_text(
        "from resdyn.nets import ResidualMLP\ndef net(): return ResidualMLP(in_features=64, width=8, depth=2)\n"
    )
    loaded = load_model(f"{tmp_path / 'net.py'}:net", dtype="float64")
    built = ModelSource.of(loaded).build()
    torch.testing.assert_close(built.state_dict(), loaded.model.state_dict(), rtol=0, atol=0)


def test_casts_that_would_change_a_model_are_refused():
    model = torch.nn.Linear(2, 2)
    model.phase = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(InputError, match="complex weights 'phase'"):
        place(model, dtype="float64")
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.bias, 1e6)
    with pytest.raises(InputError, match=r"'bias' overflows in torch\.float16"):
        place(model, dtype="float16")
    with pytest.raises(InputError, match="expected 'float32', 'float64'"):
        place(model, dtype="int8")
    assert model.weight.dtype == torch.float32


def test_a_model_that_needs_neither_is_left_alone():
    class Fixed(torch.nn.Linear):
        def to(self, *args, **kwargs):
            raise ValueError("a quantised model cannot be moved")

    place(Fixed(2, 2), device="auto", dtype="float32")


def test_the_benchmark_for_a_gpu_runs_to_its_end(capsys):
    spec = importlib.util.spec_from_file_location("gpu", Path(__file__).parents[1] / "benchmarks" / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    gpu.main(["--tiny", "--devices", "cpu"])
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| cpu")]
    assert [line[1].strip() for line in lines] == [*(work.name for work in gpu.works("cpu", True)), "matrix product"]
    assert all(float(line[2]) >= 0 for line in lines[:-1])
