"""Training: the recipe, resumption bit for bit, callbacks, and the digits of the demonstration."""

import dataclasses
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from resdyn.data import ImageData, load_data
from resdyn.data.sources import TensorSource
from resdyn.errors import ComputationError, InputError
from resdyn.nets import ResidualMLP
from resdyn.training import Recipe, accuracy, train, train_digits
from resdyn.training.precision import computing_as, predict

RECIPE = Recipe(epochs=6, lr=0.05, weight_decay=1e-3, batch_size=16, momentum=0.9, seed=3)


def blobs(n=50, classes=3):
    """Points around one corner a class: separable in an instant."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    points = torch.eye(4)[labels] + 0.1 * torch.randn(n, 4, generator=generator)
    return ImageData(
        name="blobs",
        split="train",
        class_names=tuple(str(c) for c in range(classes)),
        labels=labels,
        sample_index=torch.arange(n),
        source=TensorSource(points.reshape(n, 1, 2, 2)),
        mean=(0.0,),
        std=(1.0,),
    )


def net(seed=0):
    """With dropout, so that random numbers other than the order of images matter."""
    torch.manual_seed(seed)
    residual = ResidualMLP(in_features=(1, 2, 2), width=8, depth=2, classes=3)
    residual.final = nn.Dropout(0.3)
    return residual


class Watch:
    """Sums losses, keeps the last classifier bias, and can stop the run like a kill."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def init(self, model, data, *, state=None):
        return state or {"total": 0.0, "images": len(data), "bias": model.classifier.bias.detach().clone()}

    def update(self, state, end):
        if end.epoch == self.stop_at:
            raise KeyboardInterrupt
        assert not end.model.training
        bias = end.model.classifier.bias.detach().clone()
        return {**state, "total": state["total"] + end.loss, "bias": bias}

    def result(self, state):
        return state


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_cosine_schedule_starts_at_lr_and_passes_half_of_it_in_the_middle():
    recipe = Recipe(epochs=10, lr=0.2)
    assert [recipe.learning_rate(t) for t in (0, 5)] == pytest.approx([0.2, 0.1])
    assert recipe.learning_rate(9) == pytest.approx(0.1 * (1 + math.cos(0.9 * math.pi)))
    assert Recipe(epochs=10, lr=0.2, schedule="constant").learning_rate(9) == 0.2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("lr", 0.0),
        ("lr", math.nan),
        ("momentum", 1),
        ("schedule", "steps"),
        ("optimizer", "rprop"),
        ("matmul_precision", "low"),
        ("autocast", "float16"),
        ("memory_format", "preserve"),
    ],
)
def test_an_impossible_recipe_is_refused(key, value):
    with pytest.raises(InputError, match=f"got .*{key}"):
        Recipe(**{key: value})


def test_one_step_is_gradient_descent_on_cross_entropy_with_weight_decay():
    data, recipe = blobs(8), Recipe(epochs=1, lr=0.3, weight_decay=0.1, batch_size=8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = model[1].weight.detach().clone()
    loss = nn.functional.cross_entropy(model(data.inputs(range(8))), data.labels)
    (gradient,) = torch.autograd.grad(loss, model[1].weight)
    history = train(model, data, recipe)
    torch.testing.assert_close(model[1].weight.detach(), before - 0.3 * (gradient + 0.1 * before))
    assert history.records[0]["loss"] == pytest.approx(loss.item())


def test_adam_takes_its_own_first_step():
    data, model = blobs(8), nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = model[1].weight.detach().clone()
    loss = nn.functional.cross_entropy(model(data.inputs(range(8))), data.labels)
    (gradient,) = torch.autograd.grad(loss, model[1].weight)
    train(model, data, Recipe(epochs=1, lr=0.01, weight_decay=0.0, batch_size=8, optimizer="adam"))
    torch.testing.assert_close(model[1].weight.detach(), before - 0.01 * gradient / (gradient.abs() + 1e-8))


def test_the_precision_of_products_is_the_callers_again_afterwards():
    seen = []

    class Look(Watch):
        def update(self, state, end):
            seen.append(torch.get_float32_matmul_precision())
            return super().update(state, end)

    before = torch.get_float32_matmul_precision()
    train(net(), blobs(), dataclasses.replace(RECIPE, epochs=1, matmul_precision="medium"), [Look()])
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == before


def convolutions(seed=0):
    """Kernels 3 x 3 and 1 x 1, batch norm and a linear layer."""
    torch.manual_seed(seed)
    stem, point = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
    return nn.Sequential(stem, nn.BatchNorm2d(8), nn.ReLU(), point, nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))


def test_channels_last_changes_rounding_alone_and_leaves_the_model_as_it_was():
    plain, last, seen = convolutions(), convolutions(), []
    last[0].register_forward_pre_hook(lambda m, x: seen.append((x[0].stride(), m.weight.stride())))
    train(plain, blobs(), RECIPE)
    train(last, blobs(), dataclasses.replace(RECIPE, memory_format="channels_last"))
    for a, b in zip(plain.state_dict().values(), last.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    assert seen[0][1] == last[0].weight.contiguous(memory_format=torch.channels_last).stride()
    assert last[0].weight.stride() == plain[0].weight.stride()


def test_the_gradients_of_layer_norms_are_summed_in_float32():
    """torch 2.13.0, CPU: findings/torch_layer_norm_gradient_stops_growing_in_bfloat16.sh."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 2))
    recipe, x = Recipe(autocast="bfloat16"), torch.randn(8192, 8, generator=torch.Generator().manual_seed(0))
    gradients = {}
    for name in ("off", "bfloat16"):
        chosen = dataclasses.replace(recipe, autocast=name)
        with computing_as(chosen, model):
            predict(chosen, model, x).sum().backward()
        gradients[name] = model[1].bias.grad.clone()
        model.zero_grad()
    assert (gradients["bfloat16"] - gradients["off"]).norm() < 0.01 * gradients["off"].norm()
    assert not model[1]._forward_pre_hooks


def test_autocast_multiplies_in_bfloat16_and_keeps_weights_and_loss_in_float32():
    model, seen = convolutions(), []
    model[4].register_forward_hook(lambda m, x, y: seen.append(y.dtype))
    history = train(model, blobs(), dataclasses.replace(RECIPE, autocast="bfloat16"))
    assert set(seen) == {torch.bfloat16}
    assert {w.dtype for w in model.parameters()} == {torch.float32}
    assert history.records[-1]["loss"] == pytest.approx(
        train(convolutions(), blobs(), RECIPE).records[-1]["loss"], rel=0.2
    )
    with pytest.raises(InputError, match=r"autocast 'bfloat16' for weights of torch\.float64"):
        train(convolutions().double(), blobs(), dataclasses.replace(RECIPE, autocast="bfloat16"))


def test_a_recipe_names_later_fields_only_where_they_differ():
    """Checkpoints of before they existed are still resumed, and networks keep their names."""
    assert set(Recipe().settings()) == {f.name for f in dataclasses.fields(Recipe)} - {"autocast", "memory_format"}
    changed = Recipe(autocast="bfloat16", memory_format="channels_last").settings()
    assert (changed["autocast"], changed["memory_format"]) == ("bfloat16", "channels_last")


def test_training_is_a_function_of_its_seed_and_leaves_the_callers_random_state():
    models = [net(), net(), net()]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for model, seed in zip(models, (3, 3, 4), strict=True):
        train(model, blobs(), dataclasses.replace(RECIPE, seed=seed))
        assert torch.equal(before, torch.get_rng_state())
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    assert not models[0].training


ADAM = dataclasses.replace(RECIPE, optimizer="adam", momentum=0.0, lr=1e-3)


@pytest.mark.parametrize(("stop_at", "recipe"), [(0, RECIPE), (1, RECIPE), (4, RECIPE), (3, ADAM)])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, stop_at, recipe):
    undisturbed, resumed = net(), net()
    expected = train(undisturbed, blobs(), recipe, [Watch()])
    with pytest.raises(KeyboardInterrupt):
        train(resumed, blobs(), recipe, [Watch(stop_at)], tmp_path / "run" / "c.safetensors")
    resumed = net(seed=9) if stop_at else net()  # nothing was saved before the first epoch ended
    torch.manual_seed(77)
    got = train(resumed, blobs(), recipe, [Watch()], tmp_path / "run" / "c.safetensors")
    assert same(undisturbed, resumed)
    assert got.records == expected.records
    assert got.results[0]["total"] == expected.results[0]["total"]
    assert torch.equal(got.results[0]["bias"], expected.results[0]["bias"])


@pytest.mark.parametrize("recipe", [RECIPE, ADAM])
def test_a_run_in_other_formats_resumes_bit_for_bit(tmp_path, recipe):
    recipe = dataclasses.replace(recipe, autocast="bfloat16", memory_format="channels_last")
    undisturbed, resumed, checkpoint = convolutions(), convolutions(), tmp_path / "c.safetensors"
    expected = train(undisturbed, blobs(), recipe)

    class Stop:
        def init(self, model, data, *, state=None):
            return state or {}

        def update(self, state, end):
            if end.epoch == 2 and not (tmp_path / "stopped").exists():
                (tmp_path / "stopped").touch()
                raise KeyboardInterrupt
            return state

        def result(self, state):
            return None

    with pytest.raises(KeyboardInterrupt):
        train(resumed, blobs(), recipe, [Stop()], checkpoint)
    resumed = convolutions(seed=9)
    assert train(resumed, blobs(), recipe, [Stop()], checkpoint).records == expected.records
    assert same(undisturbed, resumed)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, second = net(), net(seed=5)
    path = tmp_path / "c.safetensors"
    expected = train(first, blobs(), RECIPE, checkpoint=path, checkpoint_every=4)
    assert train(second, blobs(), RECIPE, checkpoint=path).records == expected.records
    assert same(first, second)


def test_a_kill_while_writing_leaves_the_checkpoint_of_before(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    train(net(), blobs(), RECIPE, checkpoint=path)
    content = path.read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(net(), blobs(), RECIPE, checkpoint=tmp_path / "d.safetensors")
    assert path.read_bytes() == content
    assert not (tmp_path / "d.safetensors").exists()


def test_a_checkpoint_holds_tensors_and_json_only(tmp_path):
    path = tmp_path / "c.safetensors"
    train(net(), blobs(), RECIPE, checkpoint=path)
    with safe_open(path, framework="pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"model", "optimizer"}  # noqa: SIM118
        assert file.metadata()["json"].startswith("{")


def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(tmp_path):
    path = tmp_path / "c.safetensors"
    train(net(), blobs(), RECIPE, checkpoint=path)
    with pytest.raises(InputError, match=r"belongs to another run \(lr: 0\.05 there, 0\.2 now\)"):
        train(net(), blobs(), dataclasses.replace(RECIPE, lr=0.2), checkpoint=path)
    with pytest.raises(InputError, match="images: 50 there, 49 now"):
        train(net(), blobs(49), RECIPE, checkpoint=path)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    train(net(), blobs(), RECIPE, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"is damaged .*delete it"):
        train(net(), blobs(), RECIPE, checkpoint=path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match="is not a checkpoint of a training run"):
        train(net(), blobs(), RECIPE, checkpoint=path)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(ComputationError, match=r"the loss became .* in epoch \d+: lower the learning rate"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), blobs(), dataclasses.replace(RECIPE, lr=1e38))


def test_one_image_is_too_few_and_a_last_batch_of_one_is_left_out():
    with pytest.raises(InputError, match="got 1 image, expected at least two"):
        train(net(), blobs(1), RECIPE)
    train(net(), blobs(17), dataclasses.replace(RECIPE, epochs=1))


def test_accuracy_counts_right_answers():
    data = blobs(9)
    model = nn.Flatten()
    model.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    assert accuracy(model, data, batch_size=4) == 1
    wrong = dataclasses.replace(data, labels=(data.labels + 1) % 3)
    assert accuracy(model, wrong) == 0


def test_a_short_run_is_silent(capsys):
    train(net(), blobs(), dataclasses.replace(RECIPE, epochs=2))
    assert capsys.readouterr() == ("", "")


def test_a_short_run_on_digits_already_reads_most_of_them():
    trained = train_digits(width=32, depth=2, recipe=Recipe(epochs=8, lr=0.1, weight_decay=1e-3))
    assert trained.test_accuracy == accuracy(trained.model, load_data("digits", "test"))
    assert trained.test_accuracy > 0.9
    assert trained.history.records[-1]["accuracy"] > 0.95


@pytest.mark.slow
def test_the_demonstration_reads_98_percent_of_held_out_digits_and_its_steps_are_aligned():
    trained = train_digits()
    assert trained.test_accuracy >= 0.975
    with torch.no_grad():
        states = [trained.model.input_map(trained.train.inputs([0]).flatten(1))]
        for block in trained.model.blocks:
            states.append(block(states[-1]))
    steps = nn.functional.normalize(torch.cat(states).diff(dim=0))
    assert float((steps[1:] * steps[:-1]).sum(1).min()) > 0.9
