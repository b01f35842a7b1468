"""Models of several inputs: a mapping of tensors by the names of the model's arguments, as a tokenizer makes it."""

from __future__ import annotations

import json

import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import resdyn
from resdyn.errors import InputError, StoreError


class Reader(nn.Module):
    """Two residual blocks over the mean of the tokens that a mask lets through; with labels it returns its loss too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.branches = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor, mask: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        h = self.embedding(tokens)
        for branch in self.branches:
            mean = (h * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
            h = h + torch.tanh(branch(h - mean))
        logits = self.head(h[:, 0])
        return (logits,) if labels is None else (cross_entropy(logits, labels), logits)


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader().double().eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(6, 5, dtype=torch.float64)
    for row, length in enumerate([5, 3, 4, 2, 5, 3]):
        mask[row, length:] = 0
    return {"tokens": torch.randint(0, 11, (6, 5)), "mask": mask}


LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_a_sample_is_measured_with_its_own_mask(reader, batch, tmp_path):
    ds = resdyn.capture(reader, (batch, LABELS), None, tmp_path / "a.zarr", samples=[1, 3], show_progress=False)
    stream = resdyn.find_stream(reader, **batch)
    for place, row in enumerate([1, 3]):
        states = stream.states(**{name: values[row : row + 1] for name, values in batch.items()})
        last = torch.from_numpy(ds["states"].values[place, -1]).reshape(states[2].shape)
        torch.testing.assert_close(last, states[2])
        dense = stream.jacobian(1, states).to_dense()
        largest = ds["singular_values"].values[place, 1, 0]
        assert largest == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=1e-9)
    assert ds["class_count"].values.tolist() == [2, 2, 2]


def test_the_order_of_the_arguments_is_free_and_their_values_are_part_of_the_settings(reader, batch, tmp_path):
    ask = {"probes": "trajectory", "store": tmp_path / "a.zarr", "samples": [1], "show_progress": False}
    one = resdyn.capture(reader, batch, **ask)
    two = resdyn.capture(reader, dict(reversed(batch.items())), **ask | {"store": tmp_path / "b.zarr"})
    xr.testing.assert_identical(one.drop_attrs(), two.drop_attrs())
    with pytest.raises(StoreError, match="data_hash"):
        resdyn.capture(reader, batch | {"mask": torch.ones(6, 5, dtype=torch.float64)}, **ask)


def test_workers_measure_the_same(reader, batch, tmp_path):
    ask = {"probes": "trajectory,singular(k=2)", "samples": 2, "show_progress": False}
    here = resdyn.capture(reader, batch, store=tmp_path / "a.zarr", **ask)
    there = resdyn.capture(reader, batch, store=tmp_path / "b.zarr", workers=1, **ask)
    xr.testing.assert_allclose(here.drop_attrs(), there.drop_attrs(), rtol=1e-12)


def test_a_loss_beside_the_logits_is_no_output_of_the_stream(reader, batch):
    stream = resdyn.find_stream(reader, **batch, labels=LABELS)
    states = stream.states(**batch, labels=LABELS)
    torch.testing.assert_close(states.output, reader(**batch)[0])


def test_a_monitor_takes_them_out_of_the_loops_reach(reader, batch):
    monitor = resdyn.Monitor(every=1, samples=2)
    state = monitor.init(reader, batch, LABELS)
    batch["mask"][:, 1:] = 0
    state = monitor.update(state, reader, 1)
    first, second = monitor.result(json.loads(json.dumps(state)))
    assert first["error"] is None
    assert {**second, "epoch": 0} == first


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "expected tensors by the names"),
        ({"tokens": torch.zeros(2, 5), "mask": torch.ones(3, 5)}, r"'mask': \(3, 5\).*same number of samples"),
        ({"tokens": torch.zeros(2, 5), "mask": True}, "'mask': 'bool'"),
        ({"tokens": torch.zeros(2, 5), "mask": torch.tensor(1.0)}, "same number of samples"),
        ({"tokens": torch.zeros(2, 5, dtype=torch.int64), "mask": torch.ones(2, 5)}, "inputs 'mask' of dtype"),
        (
            {"tokens": torch.zeros(2, 5, dtype=torch.int64), "mask": torch.full((2, 5), torch.nan).double()},
            "2 of 2 inputs hold NaN",
        ),
        ({"tokens": torch.zeros(2, 5, dtype=torch.int64), "wrong": torch.ones(2, 5).double()}, "does not run"),
    ],
)
def test_what_is_no_batch_of_the_model_is_refused(reader, wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        resdyn.capture(reader, wrong, "trajectory", tmp_path / "a.zarr", samples=1, show_progress=False)
    assert not (tmp_path / "a.zarr").exists()
