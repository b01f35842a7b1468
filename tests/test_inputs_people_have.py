"""Data in the forms in which people have it: one measurement, however the same samples and labels are given."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, scaled_dot_product_attention
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import resdyn
from resdyn.errors import ComputationError, InputError, StoreError
from resdyn.nets import ResidualMLP

X = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
Y = torch.arange(30) % 3
ONE_HOT = np.eye(3)[Y.numpy()]
PAIRS = TensorDataset(X, Y)


def make_net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return ResidualMLP(in_features=5, width=6, depth=2, classes=classes, preactivation=True).eval()


def measure(data, model=None, probes="trajectory,features", **options):
    return resdyn.capture(model or make_net(), data, probes, store=None, samples=4, show_progress=False, **options)


@pytest.fixture(scope="module")
def expected():
    return measure((X, Y)).drop_attrs()


@pytest.mark.parametrize(
    "labels",
    [
        *(Y.to(dtype) for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8, torch.float32, torch.bfloat16)),
        *(Y.numpy().astype(dtype) for dtype in (np.int64, np.uint16, np.float64)),
        Y.tolist(),
        tuple(Y.tolist()),
        list(Y),
        Y[:, None],
        ONE_HOT,
        torch.tensor(ONE_HOT, dtype=torch.int32),
        ONE_HOT.astype(bool),
        ONE_HOT.tolist(),
    ],
)
def test_labels_are_whole_numbers_of_any_kind_or_one_hot(labels, expected):
    assert measure((X, labels)).drop_attrs().identical(expected)


@pytest.mark.parametrize(
    "inputs", [X.numpy(), X.numpy().astype(np.float64), X.tolist(), list(X), list(X.numpy())], ids=lambda x: type(x)
)
def test_inputs_are_arrays_of_any_kind(inputs, expected):
    assert measure((inputs, Y)).drop_attrs().identical(expected)
    assert "label" in measure(inputs, probes="trajectory").coords


def test_a_mapped_file_is_read_row_by_row(tmp_path, expected, monkeypatch):
    np.save(tmp_path / "x.npy", X.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert measure((mapped, Y)).drop_attrs().identical(expected)


class Images(Dataset):
    """As data sets of torchvision are: targets, classes, and items that are made when they are asked for."""

    classes = ("zero", "one", "two")

    def __init__(self) -> None:
        self.targets = Y.tolist()
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.reads.append(index)
        return X[index].numpy(), int(Y[index])


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        DataLoader(PAIRS, 7),
        DataLoader(PAIRS, 7, shuffle=True, drop_last=True),
        Subset(PAIRS, range(30)),
        ConcatDataset([Subset(PAIRS, range(10)), Subset(PAIRS, range(10, 30))]),
        [(x, int(y)) for x, y in zip(X, Y)],
        [X, Y],
        next(iter(DataLoader(PAIRS, 30))),
        Images(),
        DataLoader(Images(), 4),
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_sets_and_loaders_are_read_by_index(data, expected):
    assert measure(data).drop_attrs().identical(expected)


def test_of_a_data_set_that_lists_its_labels_no_more_is_read_than_is_measured():
    images = Images()
    found = measure(images, probes="trajectory")
    assert found.attrs["class_names"] == ["zero", "one", "two"]
    assert len(set(images.reads)) <= 16 + 4 + 2


def test_a_data_set_that_lists_other_labels_than_it_gives_is_noticed():
    class Relabelled(Images):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x, y if index == 0 else (y + 1) % 3

    with pytest.raises(InputError, match="another label than before"):
        measure(Relabelled(), probes="trajectory")


def test_rows_by_name_keep_their_class_in_label(expected):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def forward(self, pixels):
            return self.net(pixels)

    rows = [{"pixels": x, "label": int(y)} for x, y in zip(X, Y)]
    found = measure(rows, model=Named().eval()).drop_attrs()
    assert found["states"].equals(expected["states"])
    assert found["class_mean"].equals(expected["class_mean"])


def test_a_data_set_of_hugging_face(expected):
    datasets = pytest.importorskip("datasets")

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def forward(self, pixels):
            return self.net(pixels)

    table = datasets.Dataset.from_dict({"pixels": X.tolist(), "label": Y.tolist()}).with_format("torch")
    assert measure(table, model=Named().eval()).drop_attrs()["states"].equals(expected["states"])
    with pytest.raises(InputError, match=r"expected tensors by the names|do not make a batch"):
        measure(datasets.DatasetDict(train=table))


class Augmented(Images):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + np.random.default_rng().standard_normal(5).astype(np.float32), y


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield X[0], 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, ["a"] * 30), "np.unique"),
        ((X, Y / 2), "not whole, such as 0.5"),
        ((X, ONE_HOT / 2), "not whole"),
        ((X, torch.ones(30, 3)), "row 0 is not one-hot"),
        ((X, Y[:5]), r"shape \(5,\), expected \(30,\)"),
        ((X, torch.where(Y == 0, torch.nan, 1.0)), "not whole, such as nan"),
        ([X, X], "two samples or"),
        ([[1.0, 2.0], [1.0]], "pad or crop"),
        ([["a"], ["b"]], "got data of type list"),
        ([], "got data of type list"),
        ((X.numpy().astype(np.uint8), Y), r"x.float\(\) / 255"),
        ((X.numpy().astype(object), Y), "got inputs of dtype object"),
        (Augmented(), "differs from one reading to the next"),
        (Endless(), "has no indices"),
        (DataLoader(Endless()), "has no indices"),
        (DataLoader(PAIRS, batch_size=None), "batch_size=None"),
        (DataLoader(PAIRS, sampler=SubsetRandomSampler([1, 2])), "got a DataLoader with SubsetRandomSampler"),
        (DataLoader(PAIRS, sampler=RandomSampler(PAIRS, replacement=True)), "RandomSampler"),
        (DataLoader(PAIRS, sampler=RandomSampler(PAIRS, num_samples=7)), "RandomSampler"),
        ([(x, 0, 0) for x in X], "items of 3 parts"),
        ([(X[0], 0), (X[0, :3], 1)], "do not make a batch"),
        ([("text", 0)] * 3, "inputs of a data set as tuple|list"),
        (Subset(PAIRS, []), "without samples"),
    ],
)
def test_what_cannot_be_read_the_same_way_again_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        measure(data, probes="trajectory")


def test_a_monitor_takes_them_too():
    rows = []
    for given in ((X, Y), (X.numpy(), Y.tolist()), (PAIRS, None), (DataLoader(PAIRS, 8), None)):
        monitor = resdyn.Monitor(every=1, samples=2)
        state = monitor.init(make_net(), *given)
        rows.append(monitor.update(state, make_net(), 1)["rows"][-1])
    assert all(row == rows[0] for row in rows)
    assert rows[0]["error"] is None
    assert rows[0]["within_class_variability"] is not None


class Reader(nn.Module):
    """Attention over tokens under one mask for all sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.attention, self.head = nn.Embedding(11, 6), nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        h = self.embedding(tokens)
        h = h + scaled_dot_product_attention(*self.attention(h).chunk(3, -1), attn_mask=mask)
        return self.head(h[:, -1])


@pytest.fixture
def reader() -> nn.Module:
    torch.manual_seed(0)
    return Reader().eval()


TOKENS = torch.randint(0, 11, (5, 5), generator=torch.Generator().manual_seed(2))
CAUSAL = torch.full((5, 5), -torch.inf).triu(1)


@pytest.mark.parametrize("count", [1, 3, 5])  # 5 sequences of 5 tokens: the mask has as many rows as there are samples
def test_an_input_that_all_samples_share_is_named(reader, count, tmp_path):
    batch = {"tokens": TOKENS[:count], "mask": CAUSAL}
    options = {"samples": range(count), "shared": ["mask"], "show_progress": False}
    ds = resdyn.capture(reader, batch, "trajectory,singular(k=2)", tmp_path / "s.zarr", **options)
    stream = resdyn.find_stream(reader, **batch, shared=["mask"])
    with torch.no_grad():
        logits = reader(**batch)
    torch.testing.assert_close(stream.states(**batch).output, logits)
    for n in range(count):
        assert int(ds["prediction"][n]) == int(logits[n].argmax())
        jacobian = stream.jacobian(0, stream.states(**batch).sample(n)).to_dense()
        assert float(ds["singular_values"][n, 0, 0]) == pytest.approx(
            float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-4
        )
    if count == 5:
        again = resdyn.capture(reader, batch, "trajectory,singular(k=2)", tmp_path / "w.zarr", workers=1, **options)
        assert again.drop_attrs().equals(ds.drop_attrs())


@pytest.mark.parametrize(
    ("data", "shared", "message"),
    [
        ({"tokens": TOKENS[:3], "mask": CAUSAL}, (), r"shared=\('attention_mask',\)"),
        ({"tokens": TOKENS, "mask": CAUSAL}, ("mask", "tokens"), "which are all inputs"),
        ({"tokens": TOKENS, "mask": CAUSAL}, ("masks",), "Did you mean 'mask'"),
        ({"tokens": TOKENS, "mask": CAUSAL}, "mask", "a list of texts"),
        ({"tokens": TOKENS, "mask": CAUSAL * torch.nan}, ("mask",), "'mask' hold NaN"),
        (TOKENS, ("mask",), "a single input is one tensor"),
        (PAIRS, ("mask",), "leave it out"),
    ],
)
def test_a_shared_input_that_is_not_one_is_refused(reader, data, shared, message):
    with pytest.raises(InputError, match=message):
        measure(data, model=reader, probes="trajectory", shared=shared)


class TakesADict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.net(batch["x"])


def test_a_batch_by_name_may_be_one_argument(reader):
    batch = {"tokens": TOKENS, "mask": torch.ones(5, 5, 5).bool()}
    by_name = resdyn.find_stream(reader, **batch)
    for one in (batch, UserDict(batch)):
        stream = resdyn.find_stream(reader, one)
        assert torch.equal(stream.states(one)[1], by_name.states(**batch)[1])
        assert torch.equal(stream.states(**batch)[1], by_name.states(UserDict(batch))[1])
    named = resdyn.find_stream(TakesADict().eval(), {"x": X})
    assert torch.equal(named.states({"x": X}).output, named.states(UserDict(x=X)).output)
    with pytest.raises(InputError, match=r"does not run|by their names"):
        resdyn.find_stream(reader, {"words": TOKENS})


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_logit_with_labels_0_and_1_is_a_classifier_of_two_classes(squeezed, sigmoid):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net(1)
            head = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
            head.bias.data -= self.net(X).median().detach()

        def forward(self, x):
            z = self.net(x)
            z = torch.sigmoid(z) if sigmoid else z
            return z.squeeze(-1) if squeezed else z

    model, labels = One().eval(), (X[:, 0] > 0).float()
    found = measure((X, labels), model, "trajectory,features,robustness(directions=3)")
    chosen = torch.tensor(found["sample"].values)
    z = model.net(X[chosen])[:, 0].detach().double()
    assert found["prediction"].values.tolist() == (z > 0).long().tolist()
    loss = binary_cross_entropy_with_logits(z, labels[chosen].double(), reduction="none")
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(found["logit_margin"], z.abs(), rtol=1e-5, atol=1e-6)
    assert found["class_count"].values.sum() == 30
    assert found.sizes["class"] == 2
    assert bool(found["gradient_converged"].any())
    assert any("one logit z" in note for note in found.attrs["notes"])
    assert not any("each class has a probability" in note for note in found.attrs["notes"])
    if not squeezed:
        assert (found["classifier_weight"].values[0] == 0).all()
        assert found["feature_mean"].shape[0] == 2


def test_more_classes_than_one_output_can_tell_are_refused():
    with pytest.raises(InputError, match="of a model of one output"):
        measure((X, Y), make_net(1))


def test_an_old_keyword_works_for_a_version():
    with pytest.warns(DeprecationWarning, match="show_progress=False"):
        resdyn.capture(make_net(), X, "trajectory", store=None, samples=1, quiet=True)


class TestInMemory:
    def test_nothing_is_written_where_it_is_called(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        found = measure((X, Y))
        assert not list(tmp_path.iterdir())
        assert found["states"].values.shape == (4, 3, 6)
        assert found.attrs["complete"]

    def test_a_scheduler_needs_a_folder(self):
        with pytest.raises((InputError, StoreError)):
            measure((X, Y), scheduler="tcp://127.0.0.1:1")


class OneMissing(Dataset):
    """A data set one of whose files cannot be read."""

    targets = Y.tolist()

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        if row == 7:
            raise OSError("no such file")
        return X[row], int(Y[row])


def test_a_sample_that_cannot_be_read_is_named():
    with pytest.raises(InputError, match=r"sample 7 of the data set cannot be read \(OSError: no such file\)"):
        resdyn.capture(make_net(), OneMissing(), "trajectory", store=None, samples=[3, 7], show_progress=False)


@pytest.mark.parametrize(
    ("inputs", "words"), [(X.to_sparse(), "layout torch.sparse_coo"), (X.to("meta"), "meta device")]
)
def test_tensors_without_plain_values_are_refused(inputs, words):
    with pytest.raises(InputError, match=words):
        measure(inputs, probes="trajectory")


class Attending(nn.Module):
    """A block of attention as torch has it: where all keys are masked, torch 2.13 gives NaN."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm, self.head = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        h = self.embed(x)
        z = self.norm(h)
        h = h + self.attention(z, z, z, key_padding_mask=mask)[0]
        return self.head((h + self.norm(h).tanh() * self.embed.bias)[:, 0])


def test_a_sample_whose_states_are_not_finite_is_named():
    """A sample of padding alone (findings/torch_attention_of_nothing_is_zero_or_nan.sh)."""
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[4] = True
    data = {"x": torch.randn(6, 5, 4), "mask": mask}
    options = {"store": None, "show_progress": False}
    assert bool(
        resdyn.capture(Attending().eval(), data, "trajectory", samples=[0, 1], **options)["states"].notnull().any()
    )
    with pytest.raises(ComputationError, match=r"states of sample 4 hold NaN or infinite values from depth 1 on"):
        resdyn.capture(Attending().eval(), data, "trajectory", samples=[0, 4], **options)


def test_all_of_less_than_sixteen_samples_are_measured():
    model = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=2, classes=2).eval()
    found = resdyn.capture(model, torch.randn(5, 3), "trajectory", store=None, show_progress=False)
    assert found.sizes["sample"] == 5
