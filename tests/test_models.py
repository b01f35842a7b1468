"""Models by specification and their weights: what is accepted, and what is refused and how."""

import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from resdyn.data import Preprocessing, load_data
from resdyn.errors import InputError, MissingExtraError
from resdyn.models import load_model, load_weights, weights_hash
from resdyn.models.spec import parse_spec
from resdyn.nets import ResidualMLP

SMALL = "resdyn:mlp,in_features=4,width=3,depth=1,classes=2"


def small():
    return ResidualMLP(in_features=4, width=3, depth=1, classes=2)


def trained_state(change=None):
    state = {name: tensor.clone() for name, tensor in small().state_dict().items()}
    return {**state, **(change or {})}


class Danger:
    """Unpickling this would raise."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_spec_is_taken_apart():
    spec = parse_spec("resdyn:mlp,width=64,lr=0.5,in_features=1x8x8,skip=false,kind=wide")
    assert (spec.scheme, spec.name) == ("resdyn", "mlp")
    assert spec.options == {"width": 64, "lr": 0.5, "in_features": (1, 8, 8), "skip": False, "kind": "wide"}
    assert parse_spec("some/dir:1/net.py:make").path == "some/dir:1/net.py"
    assert parse_spec("hf:google/vit,base").name == "google/vit,base"
    assert parse_spec("timm:hf_hub:timm/x").name == "hf_hub:timm/x"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mlp", "got model 'mlp', expected file.py:factory, resdyn:<net>"),
        ("resdym:mlp", "Did you mean 'resdyn'"),
        ("net.py", "got model 'net.py', expected file.py:factory"),
        ("resdyn:mlp,width", "got 'width' in model .*expected option=value"),
        ("resdyn:cifar_resnet21", "got network 'cifar_resnet21'.*Did you mean 'cifar_resnet"),
        ("resdyn:mlp,widht=3", "got option 'widht' of mlp.*Did you mean 'width'"),
        ("absent.py:make", r"no file at 'absent\.py'"),
        ("hf:./absent", r"no folder at '\./absent'"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(spec, message):
    if spec.startswith("hf:"):
        pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    with pytest.raises(InputError, match=message):
        load_model(spec)


def test_a_net_without_weights_is_random_but_the_same_each_time_and_says_so():
    before = torch.get_rng_state()
    one, two = load_model(SMALL), load_model(SMALL)
    assert torch.equal(before, torch.get_rng_state())
    assert one.weights_hash == two.weights_hash
    assert "random, not trained" in one.notes[0]
    assert (one.num_classes, tuple(one.example_input.shape)) == (2, (1, 4))
    assert not one.model.training


def test_weights_change_the_hash_and_drop_the_note(tmp_path):
    save_file(trained_state(), tmp_path / "w.safetensors")
    loaded = load_model(SMALL, tmp_path / "w.safetensors")
    assert loaded.notes == ()
    assert loaded.weights_hash != load_model(SMALL).weights_hash


def test_the_hash_depends_on_names_dtypes_shapes_and_every_bit():
    def holding(name, tensor):
        model = nn.Module()
        model.register_parameter(name, nn.Parameter(tensor))
        return weights_hash(model)

    ones = torch.ones(2, 2)
    changed = ones.clone()
    changed[0, 0] = torch.nextafter(ones[0, 0], torch.tensor(2.0))
    others = [("b", ones), ("a", ones.half()), ("a", ones.reshape(4, 1)), ("a", changed)]
    assert holding("a", ones) == holding("a", ones.clone())
    assert len({holding("a", ones), *(holding(*other) for other in others)}) == 5


def test_torch_files_of_tensors_load_with_their_wrappings(tmp_path):
    state = trained_state()
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "w.pt")
    model = small()
    load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_batch_norm_counters_may_be_missing(tmp_path):
    state = {k: v for k, v in trained_state().items() if "num_batches_tracked" not in k}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(small(), tmp_path / "w.safetensors")


def test_one_of_two_tied_tensors_is_enough(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    save_file({"0.weight": torch.eye(2)}, tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model[1].weight, torch.eye(2))


@pytest.mark.parametrize("suffix", [".pkl", ".safetensors", ".pt"])
def test_a_pickle_is_refused_unopened_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(pickle.dumps(Danger()))
    with pytest.raises(InputError, match="is a pickle, which could run code and is never opened here"):
        load_model(SMALL, path)


def test_a_torch_file_with_code_in_it_is_refused(tmp_path):
    torch.save({"a": Danger()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"holds more than tensors.*convert it"):
        load_model(SMALL, tmp_path / "w.pt")


@pytest.mark.parametrize("content", [[1, 2], {"lr": 0.1}])
def test_a_torch_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match="holds no state dict"):
        load_model(SMALL, tmp_path / "w.pt")


@pytest.mark.parametrize("keep", [0, 1, 60, -4])
def test_a_truncated_safetensors_file_is_refused(tmp_path, keep):
    path = tmp_path / "w.safetensors"
    save_file(trained_state(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"is not a readable safetensors file .*truncated"):
        load_model(SMALL, path)


def test_a_truncated_or_foreign_zip_file_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(trained_state(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="is not a readable torch file"):
        load_model(SMALL, path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(InputError, match="is not a readable torch file"):
        load_model(SMALL, tmp_path / "x.zip")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no weights file at"):
        load_model(SMALL, tmp_path / "absent.safetensors")


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    state = trained_state({"extra": torch.ones(1)})
    del state["classifier.bias"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"missing classifier\.bias; unexpected extra"):
        load_model(SMALL, tmp_path / "w.safetensors")


def test_a_wrong_shape_is_named(tmp_path):
    save_file(trained_state({"classifier.bias": torch.ones(7)}), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"classifier\.bias has \(7,\), expected \(2,\)"):
        load_model(SMALL, tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    save_file(trained_state({"classifier.bias": torch.tensor([1.0, value])}), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"NaN or infinite values in classifier\.bias"):
        load_model(SMALL, tmp_path / "w.safetensors")


FACTORIES = """
import torch
from torch import nn
from helper_beside import WIDTH

def plain(width=WIDTH):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width)).train()

def with_example():
    return nn.Linear(4, 3), torch.zeros(1, 4)

def with_size():
    net = nn.Conv2d(3, 2, 1)
    net.input_size, net.mean, net.std = (3, 5, 5), [0.1] * 3, [0.2] * 3
    return net

def in_double():
    net = nn.Linear(4, 3).double()
    net.input_size = (4,)
    return net

def wrong_size():
    net = nn.Linear(4, 3)
    net.input_size = (5,)
    return net

def diverged():
    net = nn.Linear(4, 3)
    net.weight.data[0, 0] = float("nan")
    return net

def number():
    return 3
"""


@pytest.fixture
def factories(tmp_path):
    (tmp_path / "helper_beside.py").write_text("WIDTH = 6\n")
    (tmp_path / "nets.py").write_text(FACTORIES)
    yield tmp_path / "nets.py"
    sys.modules.pop("helper_beside", None)


def test_a_factory_in_a_file_gives_a_model_in_eval_mode(factories):
    loaded = load_model(f"{factories}:plain")
    assert not any(m.training for m in loaded.model.modules())
    assert (loaded.example_input, loaded.num_classes, loaded.preprocessing) == (None, None, Preprocessing())
    assert load_model(f"{factories}:plain,width=2").model[0].out_features == 2
    assert str(factories.parent) not in sys.path


def test_a_factory_may_tell_its_example_or_its_size(factories):
    assert load_model(f"{factories}:with_example").num_classes == 3
    assert load_model(f"{factories}:with_example").preprocessing.input_size == (4,)
    sized = load_model(f"{factories}:with_size")
    assert sized.preprocessing == Preprocessing((3, 5, 5), (0.1,) * 3, (0.2,) * 3)
    assert (tuple(sized.example_input.shape), sized.num_classes) == ((1, 3, 5, 5), None)
    assert load_model(f"{factories}:in_double").example_input.dtype == torch.float64


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("absent", "has no function 'absent'"),
        ("number", "returned int, expected a torch.nn.Module"),
        ("wrong_size", r"does not accept its example input of shape \(1, 5\)"),
        ("diverged", "NaN or infinite values in weight"),
        ("plain,depth=3", "got option 'depth' of plain, expected one of: width"),
    ],
)
def test_a_factory_that_does_not_serve_is_refused(factories, factory, message):
    with pytest.raises(InputError, match=message):
        load_model(f"{factories}:{factory}")


def test_a_file_that_cannot_be_imported_is_refused(tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(InputError, match="could not be imported: ModuleNotFoundError"):
        load_model(f"{tmp_path / 'bad.py'}:make")


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_not_installed_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"this needs the package '{package}'.*pip install {package}"):
        load_model(f"{package}:resnet18")


def test_timm_models_bring_their_preprocessing_and_may_not_unpickle(monkeypatch):
    seen = {}

    def create_model(name, **options):
        seen.update(options, name=name, guard=os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))

    config = {"input_size": (3, 2, 2), "mean": (0.5,) * 3, "std": (0.1,) * 3}
    stub = types.SimpleNamespace(
        create_model=create_model, data=types.SimpleNamespace(resolve_model_data_config=lambda model: config)
    )
    monkeypatch.setitem(sys.modules, "timm", stub)
    loaded = load_model("timm:tiny,depth=3")
    assert seen == {"name": "tiny", "pretrained": True, "depth": 3, "guard": "1"}
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert (loaded.num_classes, loaded.preprocessing.mean) == (5, (0.5,) * 3)


def transformers_folder(tmp_path, kind):
    transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    if kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
        )
        model = transformers.ResNetForImageClassification(config)
    else:
        config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, bos_token_id=0, eos_token_id=0)
        model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    return tmp_path


def test_a_transformers_folder_loads_offline_with_its_head_and_preprocessing(tmp_path):
    folder = transformers_folder(tmp_path, "resnet")
    (folder / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 64}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}'
    )
    loaded = load_model(f"hf:{folder}")
    assert loaded.num_classes == 3
    assert loaded.preprocessing == Preprocessing((3, 64, 64), (0.5,) * 3, (0.2,) * 3)
    assert load_model(f"hf:{folder}", folder / "model.safetensors").weights_hash == loaded.weights_hash


def test_a_language_model_of_transformers_is_fed_tokens(tmp_path):
    loaded = load_model(f"hf:{transformers_folder(tmp_path, 'gpt2')}")
    assert loaded.example_input.dtype == torch.int64
    assert loaded.num_classes is None
    assert loaded.model(loaded.example_input).shape == (1, 16, 20)


def test_pickled_weights_in_a_transformers_folder_are_refused(tmp_path):
    folder = transformers_folder(tmp_path, "resnet")
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"transformers cannot load.*pickled weights are never opened"):
        load_model(f"hf:{folder}")


def test_a_transformers_folder_without_a_head_is_refused(tmp_path):
    folder = transformers_folder(tmp_path, "resnet")
    state = {"resnet.embedder.embedder.convolution.weight": torch.ones(4, 3, 7, 7)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing classifier\.1\.bias"):
        load_model(f"hf:{folder}")


def test_resnet_20_is_right_on_four_of_five_of_the_jpeg_images_of_cifar10():
    if "RESDYN_DATA" not in os.environ:
        pytest.skip("RESDYN_DATA is not set: cifar10 is looked for under it")
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    root = Path(os.environ["RESDYN_DATA"])
    weights = root.parent / "models/cifar_resnet/resnet20.safetensors"
    if not (weights.exists() and (root / "cifar10").is_dir()):
        pytest.skip("RESDYN_DATA has no cifar10, or no weights of ResNet-20 beside it")
    loaded = load_model("resdyn:cifar_resnet20", weights)
    data = load_data("cifar10").prepared(loaded.preprocessing).subset(range(1000))
    with torch.no_grad():
        right = sum(int((loaded.model(b.inputs).argmax(1) == b.labels).sum()) for b in data.batches(250))
    assert right / 1000 == pytest.approx(0.814 if data.notes else 0.918, abs=0.02)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_weights_that_are_no_real_numbers_are_named(tmp_path, dtype):
    model = torch.nn.Linear(2, 2)
    tensors = {"weight": torch.ones(2, 2).to(dtype), "bias": torch.zeros(2)}
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"weight is {dtype}, expected torch.float32"):
        load_weights(model, tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_real_weights_of_any_precision_load(tmp_path, dtype):
    model = torch.nn.Linear(2, 2)
    torch.save({"weight": torch.ones(2, 2).to(dtype), "bias": torch.zeros(2).to(dtype)}, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert model.weight.dtype == torch.float32
    assert (model.weight == 1).all()


def test_weights_beyond_the_models_precision_are_named(tmp_path):
    torch.save({"weight": torch.full((2, 2), 1e300, dtype=torch.float64), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="in the model's precision: NaN or infinite values in weight"):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "w.pt")


def test_counters_and_masks_may_be_of_another_width_that_holds_them(tmp_path):
    model = torch.nn.Module()
    model.register_buffer("mask", torch.ones(3, dtype=torch.bool))
    model.register_buffer("count", torch.zeros(3, dtype=torch.int64))
    torch.save(
        {"mask": torch.tensor([1, 0, 1]), "count": torch.tensor([1, 2, 3], dtype=torch.int32)}, tmp_path / "w.pt"
    )
    load_weights(model, tmp_path / "w.pt")
    assert model.mask.tolist() == [True, False, True]
    torch.save({"mask": torch.tensor([1, 0, 2]), "count": torch.tensor([1.0, 2.0, 3.5])}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"mask is torch.int64, expected torch.bool"):
        load_weights(model, tmp_path / "w.pt")
