"""Datasets by name and folder, preprocessing, notes and what is refused."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resdyn.data.huggingface as huggingface
from resdyn.data import DATASETS, ImageData, Preprocessing, load_data
from resdyn.data.sources import EncodedSource, TensorSource
from resdyn.errors import InputError, MissingExtraError


def need_data(name):
    if "RESDYN_DATA" not in os.environ:
        pytest.skip(f"RESDYN_DATA is not set: {name} is looked for under it")
    if not (Path(os.environ["RESDYN_DATA"]) / name).is_dir():
        pytest.skip(f"RESDYN_DATA has no {name}")
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    return name


def picture(seed, size=(6, 4), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels if mode == "RGB" else pixels[..., 0], mode=None)


def encoded(seed, form="PNG", **kwargs):
    buffer = io.BytesIO()
    picture(seed, **kwargs).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two classes, three images, one of another size."""
    for path, seed, size in [("cat/a.png", 0, (6, 4)), ("cat/b.jpg", 1, (6, 4)), ("dog/c.png", 2, (8, 8))]:
        (tmp_path / "pets" / path).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, size).save(tmp_path / "pets" / path)
    return tmp_path / "pets"


def in_memory(images, labels=None, **kwargs):
    n = len(images)
    return ImageData(
        name="made",
        split="test",
        class_names=("zero", "one"),
        labels=torch.zeros(n, dtype=torch.int64) if labels is None else torch.tensor(labels),
        sample_index=torch.arange(n),
        source=TensorSource(images),
        mean=(0.5,),
        std=(0.25,),
        **kwargs,
    )


def write_parquet(root, name, form, split="test", column="image", labels=(0, 1, 1)):
    datasets = pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=["zero", "one"])})
    images = [{"bytes": encoded(i, form), "path": None} for i in range(len(labels))]
    table = datasets.Dataset.from_dict({column: images, "label": list(labels)}, features=features)
    (root / name / "data").mkdir(parents=True, exist_ok=True)
    table.to_parquet(root / name / "data" / f"{split}-00000-of-00001.parquet")


def test_digits_are_split_into_1500_and_297_without_overlap_and_by_class():
    train, test = load_data("digits", "train"), load_data("digits", "test")
    assert (len(train), len(test)) == (1500, 297)
    seen = {image.numpy().tobytes() for image in train.source.images}
    assert not any(image.numpy().tobytes() in seen for image in test.source.images)
    assert test.labels.bincount().min() >= 28
    assert test.class_names == tuple("0123456789")


def test_digits_are_standardised_by_the_training_images():
    inputs = load_data("digits", "train").inputs(range(1500))
    assert inputs.shape == (1500, 1, 8, 8)
    assert abs(float(inputs.mean())) < 1e-3
    assert float(inputs.std()) == pytest.approx(1, abs=1e-3)


def test_digits_come_as_stored_in_unit_range():
    image = load_data("digits").image(0)
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    with pytest.raises(IndexError, match=r"got image 297, expected 0\.\.296"):
        load_data("digits").image(297)


@pytest.mark.parametrize(
    ("name", "shape"), [("mnist", (1, 28, 28)), ("fashion_mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))]
)
def test_datasets_on_disk_are_standardised(name, shape):
    data = load_data(need_data(name))
    inputs = data.inputs(range(500))
    assert len(data) == 10000
    assert inputs.shape == (500, *shape)
    assert len(data.class_names) == 10
    assert abs(float(inputs.mean())) < 0.1
    assert float(inputs.std()) == pytest.approx(1, abs=0.1)


def test_the_local_cifar10_carries_a_note_on_its_jpeg_images_and_mnist_does_not():
    data = load_data(need_data("cifar10"))
    is_jpeg = data.source.encoded(0).startswith(b"\xff\xd8")
    assert any("JPEG" in note and "lower" in note for note in data.notes) == is_jpeg
    assert load_data(need_data("mnist")).notes == ()


@pytest.mark.parametrize(("form", "notes"), [("PNG", 0), ("JPEG", 1)])
def test_jpeg_bytes_of_a_lossless_dataset_give_a_note(tmp_path, form, notes):
    write_parquet(tmp_path, "cifar10", form, column="img")
    data = load_data("cifar10", root=tmp_path)
    assert len(data.notes) == notes
    assert data.labels.tolist() == [0, 1, 1]
    assert data.class_names == ("zero", "one")
    assert data.inputs([0, 2]).shape == (2, 3, 4, 6)


def test_a_missing_test_split_is_replaced_by_validation_and_others_are_refused(tmp_path):
    write_parquet(tmp_path, "imagenette", "JPEG", split="validation")
    data = load_data("imagenette", root=tmp_path)
    assert (data.split, data.notes) == ("validation", ())
    with pytest.raises(InputError, match=r"got split 'train' of .*expected one of: validation"):
        load_data("imagenette", "train", root=tmp_path)


def test_a_named_dataset_may_lie_as_a_folder_of_images(folder, tmp_path):
    folder.rename(tmp_path / "imagenette")
    data = load_data("imagenette", root=tmp_path)
    assert (data.name, data.class_names) == ("imagenette", ("cat", "dog"))
    assert data.mean == DATASETS["imagenette"].mean


def test_without_network_the_error_says_where_to_put_the_data(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the extra 'data' is not installed")

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"cannot load 'cifar100': Couldn't reach.*RESDYN_DATA or --data-root"):
        load_data("cifar100", root=tmp_path)


def test_without_the_datasets_package_the_error_names_the_extra(tmp_path, monkeypatch):
    def absent(package, extra):
        raise MissingExtraError.for_package(package, extra)

    monkeypatch.setattr(huggingface, "require", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'resdyn\[data\]'"):
        load_data("mnist", root=tmp_path)


def test_a_folder_of_images_has_a_class_a_sub_folder(folder):
    data = load_data(folder)
    assert (data.name, data.split, data.class_names) == ("pets", "all", ("cat", "dog"))
    assert data.labels.tolist() == [0, 0, 1]
    expected = np.asarray(picture(0), dtype=np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(data.image(0).numpy(), expected)


def test_a_folder_with_splits_gives_the_one_asked_for(folder, tmp_path):
    (tmp_path / "split").mkdir()
    folder.rename(tmp_path / "split" / "val")
    assert load_data(tmp_path / "split", "test").split == "val"
    with pytest.raises(InputError, match=r"got split 'train' of .*expected one of: val"):
        load_data(tmp_path / "split", "train")


def test_images_of_different_sizes_need_an_input_size(folder):
    data = load_data(folder)
    with pytest.raises(InputError, match="images of pets have different shapes"):
        data.inputs([0, 2])
    assert data.prepared(Preprocessing((3, 5, 5))).inputs([0, 2]).shape == (2, 3, 5, 5)


def test_a_damaged_image_is_named(folder):
    (folder / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(InputError, match=r"cannot decode .*a\.png.*Remove or replace"):
        load_data(folder).image(0)


def test_an_empty_folder_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="got no images in"):
        load_data(tmp_path)
    with pytest.raises(InputError, match=r"expected one of digits, mnist.*Did you mean 'cifar10'"):
        load_data("cifar1")
    with pytest.raises(InputError, match="got split 'dev' of digits, expected 'train' or 'test'"):
        load_data("digits", "dev")
    with pytest.raises(InputError, match=r"got the data root .*expected a folder"):
        load_data("mnist", root=tmp_path / "absent")


def test_data_without_images_are_refused():
    with pytest.raises(InputError, match=r"got no images in made \(test\), expected at least one"):
        in_memory(torch.empty(0, 1, 2, 2))


def test_classes_are_chosen_by_name_and_relabelled_in_the_order_given():
    whole = load_data("digits")
    data = load_data("digits", classes=["7", "2"])
    assert data.class_names == ("7", "2")
    assert set(data.labels.tolist()) == {0, 1}
    assert torch.equal(torch.tensor([7, 2])[data.labels], whole.labels[data.sample_index])
    torch.testing.assert_close(data.image(3), whole.image(int(data.sample_index[3])))


def test_an_unknown_class_and_a_class_named_twice_are_refused():
    with pytest.raises(InputError, match="got class 'ten' of digits, expected one of: 0, 1"):
        load_data("digits", classes=["ten"])
    with pytest.raises(InputError, match="at least one, each once"):
        load_data("digits", classes=["1", "1"])


def test_batches_hold_every_image_once_in_order():
    data = load_data("digits")
    batches = list(data.batches(100))
    assert [len(b.labels) for b in batches] == [100, 100, 97]
    assert torch.equal(torch.cat([b.positions for b in batches]), torch.arange(297))
    torch.testing.assert_close(batches[1].inputs[5], data.inputs([105])[0])


def test_a_subset_of_encoded_images_keeps_their_place_in_the_split(folder):
    data = load_data(folder).subset([2, 0])
    assert data.sample_index.tolist() == [2, 0]
    assert data.labels.tolist() == [1, 0]
    torch.testing.assert_close(data.image(1), load_data(folder).image(0))


def test_in_memory_data_feed_the_same_inputs(folder):
    data = load_data(folder).prepared(Preprocessing((1, 4, 4), mean=(0.2,), std=(0.3,)))
    torch.testing.assert_close(data.in_memory().inputs([2, 1]), data.inputs([2, 1]))


def test_inputs_are_normalised_by_the_dataset_unless_the_model_says_otherwise():
    data = in_memory(torch.ones(2, 1, 2, 2))
    assert float(data.inputs([0]).mean()) == pytest.approx((1 - 0.5) / 0.25)
    assert float(data.prepared(Preprocessing((1, 2, 2))).inputs([0]).mean()) == pytest.approx(2)
    own = Preprocessing((1, 2, 2), mean=(0.0,), std=(0.5,))
    assert float(data.prepared(own).inputs([0]).mean()) == pytest.approx(2)
    assert float(data.prepared(own).image(0).mean()) == 1


def test_grey_images_are_repeated_and_colours_averaged():
    grey, colour = torch.rand(1, 1, 4, 4), torch.rand(1, 3, 4, 4)
    assert torch.equal(Preprocessing((3, 4, 4))(grey), grey.expand(1, 3, 4, 4))
    torch.testing.assert_close(Preprocessing((1, 4, 4))(colour), colour.mean(1, keepdim=True))
    with pytest.raises(InputError, match="got images of 3 channels, expected 4"):
        Preprocessing((4, 4, 4))(colour)


def test_fitting_keeps_the_aspect_ratio_and_cuts_out_the_middle():
    image = torch.zeros(1, 1, 4, 8)
    image[..., 2:6] = 1
    assert bool((Preprocessing((1, 4, 4))(image) == 1).all())
    constant = torch.full((1, 1, 9, 7), 0.3)
    torch.testing.assert_close(Preprocessing((1, 4, 5))(constant), torch.full((1, 1, 4, 5), 0.3))


def test_flat_inputs_need_the_right_number_of_values():
    assert Preprocessing((16,))(torch.rand(2, 1, 4, 4)).shape == (2, 16)
    with pytest.raises(InputError, match=r"got images of shape \(1, 4, 4\) \(16 values\), expected 64 values"):
        Preprocessing((64,))(torch.rand(2, 1, 4, 4))


def test_decoded_images_are_remembered():
    calls = []

    def read(index):
        calls.append(index)
        return encoded(index, mode="L")

    source = EncodedSource(2, read, str)
    assert torch.equal(source.read(1), source.read(1))
    assert source.read(1).shape == (1, 4, 6)
    assert calls == [1]
