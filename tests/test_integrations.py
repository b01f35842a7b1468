"""Adaptive depth and monitors in other people's loops: Hugging Face's Trainer, Lightning, TensorBoard.

What these need is skipped plainly.
"""

import importlib.util

import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError, MissingExtraError
from resdyn.integrations import huggingface_monitor, lightning_adaptive_depth, lightning_monitor, tensorboard_log
from resdyn.integrations import lightning as lightning_adapter
from resdyn.integrations.watching import Watching
from resdyn.nets import LogisticResNet
from resdyn.training import AdaptiveDepth

needs_lightning = pytest.mark.skipif(not importlib.util.find_spec("lightning"), reason="lightning is not installed")
needs_trainer = pytest.mark.skipif(
    not (importlib.util.find_spec("transformers") and importlib.util.find_spec("accelerate")),
    reason="the Trainer of transformers needs accelerate, which is not installed",
)


def images(n=24):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 2, 2, generator=generator), torch.arange(n) % 3


def logistic():
    torch.manual_seed(0)
    return LogisticResNet(in_features=(1, 2, 2), width=6, depth=5, classes=3, start="zero")


def watch(**settings):
    """The cheapest monitor."""
    return resdyn.Monitor(**{"every": 1, "samples": 2, "probes": "trajectory", "metrics": ("tortuosity",)} | settings)


class FakeTrainer:
    """What the callback reads of a Lightning Trainer."""

    def __init__(self, *optimizers, **metrics):
        self.optimizers = list(optimizers)
        self.callback_metrics = {name: torch.tensor(value) for name, value in metrics.items()}
        self.is_global_zero, self.should_stop = True, False
        self.current_epoch, self.max_epochs, self.global_step = 0, 3, 0
        self.loggers, self.logged = [self, self], []

    def log_metrics(self, values, step):
        self.logged.append((step, values))


def test_lightnings_callback_shrinks_the_network_and_keeps_its_state():
    module = nn.Module()
    module.model = logistic()
    optimizer = torch.optim.Adam(module.parameters())
    callback = lightning_adapter._callback(object, AdaptiveDepth(threshold=1.0), (images()[0],), "train_loss", "model")
    trainer = FakeTrainer(optimizer, train_loss=1.0)
    callback.setup(trainer, module, "fit")
    callback.on_fit_start(trainer, module)
    callback.on_train_epoch_end(trainer, module)
    trainer.callback_metrics["train_loss"] = torch.tensor(0.5)
    callback.on_train_epoch_end(trainer, module)
    assert module.model.depth == 3
    assert len(optimizer.param_groups[0]["params"]) == 2 + 2 + 3 * 2
    assert [row["depths"]["blocks"] for row in callback.rows] == [5, 5, 4]
    again = nn.Module()
    again.model = logistic()
    other = lightning_adapter._callback(object, AdaptiveDepth(), (images()[0],), "train_loss", "model")
    other.setup(trainer, again, "fit")
    again.load_state_dict(module.state_dict())
    other.load_state_dict(callback.state_dict())
    other.on_fit_start(trainer, again)
    assert (again.model.depth, other.rows) == (3, callback.rows)


def test_lightnings_callback_says_what_it_lacks():
    module = logistic()
    callback = lightning_adapter._callback(object, AdaptiveDepth(), (images()[0],), "train_loss", None)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    callback.on_fit_start(FakeTrainer(optimizer), module)
    with pytest.raises(InputError, match="logged no 'train_loss'"):
        callback.on_train_epoch_end(FakeTrainer(optimizer), module)
    with pytest.raises(InputError, match="got 2 optimizers"):
        callback.on_train_epoch_end(FakeTrainer(optimizer, optimizer, train_loss=1.0), module)


def test_without_lightning_the_extra_is_named(monkeypatch):
    if importlib.util.find_spec("lightning"):
        pytest.skip("lightning is installed")
    with pytest.raises(MissingExtraError, match=r"resdyn\[lightning\]"):
        lightning_adaptive_depth(AdaptiveDepth(), (images()[0],))
    with pytest.raises(MissingExtraError, match=r"resdyn\[lightning\]"):
        lightning_monitor(watch(), images()[0])


@needs_lightning
def test_compromised_releases_of_lightning_are_refused(monkeypatch):
    import lightning  # noqa: F401, before it is asked for its version

    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.6.2")
    with pytest.raises(InputError, match="compromised"):
        lightning_adaptive_depth(AdaptiveDepth(), (images()[0],))


@needs_lightning
@pytest.mark.filterwarnings("ignore")
def test_in_lightning_a_run_shrinks_and_resumes(tmp_path):
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = logistic()

        def training_step(self, batch, _):
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            self.log("train_loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)}

    def fit(epochs, checkpoint=None):
        module = Module()
        callback = lightning_adaptive_depth(AdaptiveDepth(threshold=1.0), (images()[0],), attribute="model")
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=[callback],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            accelerator="cpu",
        )
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*images()), batch_size=8)
        trainer.fit(module, data, ckpt_path=checkpoint)
        return module, callback, trainer

    module, _, trainer = fit(2)
    assert module.model.depth == 3
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, again, _ = fit(3, tmp_path / "last.ckpt")
    assert resumed.model.depth == 2
    assert [row["depths"]["blocks"] for row in again.rows] == [5, 5, 4, 3]


@needs_trainer
@pytest.mark.filterwarnings("ignore")
def test_in_the_trainer_of_transformers_a_run_shrinks_resumes_and_loads(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from resdyn.integrations import huggingface_adaptive_depth

    words = torch.randint(16, (24, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in words]

    def fit(epochs, resume=None):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=5, n_head=2))
        callback = huggingface_adaptive_depth(AdaptiveDepth(threshold=100.0), {"input_ids": words})
        arguments = TrainingArguments(
            tmp_path / "run",
            num_train_epochs=epochs,
            per_device_train_batch_size=8,
            logging_steps=1,
            report_to=[],
            save_strategy="epoch",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[callback])
        trainer.train(resume_from_checkpoint=resume)
        return model, callback, trainer

    model, callback, trainer = fit(2)
    assert [row["depths"]["transformer.h"] for row in callback.rows] == [5, 5, 4]
    assert model.config.num_hidden_layers == len(model.transformer.h) == 3
    used = {id(p) for p in model.parameters()}
    assert all(id(p) in used for group in trainer.optimizer.param_groups for p in group["params"])
    trainer.save_model(tmp_path / "saved")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(words).logits, model.eval()(words).logits)
    last = max((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    resumed, _, _ = fit(3, str(last))
    assert len(resumed.transformer.h) == 2


def test_tensorboard_gets_every_value_of_a_new_row():
    class Writer:
        def __init__(self):
            self.told = []

        def add_scalar(self, tag, value, step):
            self.told.append((tag, value, step))

    writer, model, (inputs, labels) = Writer(), logistic(), images()
    monitor = watch(every=10, unit="step", metrics=("tortuosity", "spectral_radius"), log=tensorboard_log(writer))
    state = monitor.init(model, inputs, labels)
    for step in range(1, 21):
        state = monitor.update(state, model, step)
    assert writer.told == [("resdyn/tortuosity", row["tortuosity"], row["step"]) for row in state["rows"]]
    assert [step for _, _, step in writer.told] == [0, 10, 20]


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_lightnings_callback_measures_logs_and_keeps_its_rows(unit):
    def callback():
        return lightning_adapter._monitor_callback(object, Watching(watch(every=2, unit=unit), *images()), "model")

    module = nn.Module()
    module.model = logistic()
    trainer, first = FakeTrainer(train_loss=0.5, last=1.0), callback()
    first.on_train_start(trainer, module)
    for trainer.current_epoch in range(3):
        for _ in range(2):
            trainer.global_step += 1
            first.on_train_batch_end(trainer, module, None, None, 0)
        first.on_train_epoch_end(trainer, module)
    first.on_train_end(trainer, module)
    assert [row[unit] for row in first.rows] == ([0, 2, 3] if unit == "epoch" else [0, 2, 4, 6])
    assert first.rows[-1]["train_loss"] == 0.5
    assert first.rows[-1]["epoch"] == (3 if unit == "epoch" else 2)
    steps = [0, 4, 6] if unit == "epoch" else [0, 2, 4, 6]
    values = [{"resdyn/tortuosity": row["tortuosity"]} for row in first.rows]
    assert trainer.logged == [entry for entry in zip(steps, values, strict=True) for _ in trainer.loggers]
    again = callback()
    again.load_state_dict(first.state_dict())
    again.on_train_start(trainer, module)
    assert again.rows == first.rows
    assert again.state_key == f"MonitorCallback(every=2, unit={unit})"


@needs_lightning
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_in_lightning_a_monitor_changes_nothing_and_a_resumed_run_goes_on_with_its_rows(tmp_path, unit):
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import CSVLogger

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model, self.noise, self.losses = logistic(), nn.Dropout(0.5), []

        def training_step(self, batch, _):
            loss = nn.functional.cross_entropy(self.model(self.noise(batch[0])), batch[1])
            self.log("train_loss", loss, on_epoch=True)
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-2, momentum=0.9)

    def fit(epochs, callbacks, checkpoint=None):
        module = Module()
        loggers = [CSVLogger(tmp_path, name) for name in ("one", "two")]
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            accelerator="cpu",
        )
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*images()), batch_size=8, shuffle=True)
        trainer.fit(module, data, ckpt_path=checkpoint)
        return module.losses, trainer

    def callback():
        return lightning_monitor(watch(every=1 if unit == "epoch" else 3, unit=unit), *images(), attribute="model")

    watched, again = callback(), callback()
    alone, (losses, trainer) = fit(2, [])[0], fit(2, [watched])
    assert alone == losses
    logged = [(tmp_path / name / "version_1" / "metrics.csv").read_text() for name in ("one", "two")]
    assert all("resdyn/tortuosity" in text for text in logged)
    assert all(str(row["tortuosity"]) in text for row in watched.rows for text in logged)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(3, [again], tmp_path / "last.ckpt")
    assert again.rows[:3] == watched.rows
    assert [row[unit] for row in again.rows] == ([0, 1, 2, 3] if unit == "epoch" else [0, 3, 6, 9])
    assert again.rows[-1]["train_loss"] > 0


@needs_trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_in_the_trainer_of_transformers_a_monitor_changes_nothing_logs_and_resumes(tmp_path, unit):
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    words = torch.randint(16, (24, 6), generator=torch.Generator().manual_seed(0))

    class Reporter(TrainerCallback):
        """Like the callback of TensorBoard, before the monitor's."""

        def __init__(self):
            self.told = []

        def on_log(self, args, state, control, logs=None, **_):
            self.told.append(dict(logs))

    def fit(epochs, callback=None, resume=None, attach=True, restore=False):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=2, n_head=2))
        arguments = TrainingArguments(
            tmp_path / ("watched" if callback else "alone"),
            num_train_epochs=epochs,
            per_device_train_batch_size=8,
            logging_steps=1,
            report_to=[],
            save_strategy="epoch",
            use_cpu=True,
            disable_tqdm=True,
            restore_callback_states_from_checkpoint=restore,
            bf16=unit == "epoch",
        )
        reporter = Reporter()
        callbacks = [reporter] + ([callback] if callback and not attach else [])
        rows = [{"input_ids": row, "labels": row} for row in words]
        trainer = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
        if callback and attach:
            assert callback.attach(trainer) is callback
        trainer.train(resume_from_checkpoint=resume and str(tmp_path / resume))
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return losses, reporter.told, trainer.state.log_history

    def callback():
        every = 1 if unit == "epoch" else 3
        return huggingface_monitor(watch(every=every, unit=unit, position=-1, granularity="layer"), words[:4])

    def measured(entries):
        return [entry["resdyn/tortuosity"] for entry in entries if "resdyn/tortuosity" in entry]

    watched = callback()
    (alone, _, _), (losses, told, history) = fit(2), fit(2, watched)
    assert len(alone) == 6
    assert alone == losses
    values = [row["tortuosity"] for row in watched.rows]
    assert len(set(values)) == 3
    assert measured(told) == measured(history) == values
    assert [row[unit] for row in watched.rows] == ([0, 1, 2] if unit == "epoch" else [0, 3, 6])
    assert watched.rows[-1]["loss"] == losses[-1 if unit == "epoch" else -2]
    resumed, attach = callback(), unit == "step"
    _, told, history = fit(3, resumed, "watched/checkpoint-6", attach, restore=attach)
    assert resumed.rows[:3] == watched.rows
    assert [row[unit] for row in resumed.rows] == ([0, 1, 2, 3] if unit == "epoch" else [0, 3, 6, 9])
    assert measured(history) == [row["tortuosity"] for row in resumed.rows]
    assert measured(told) == (measured(history)[3:] if attach else [])
    if unit == "epoch":
        late = callback()
        fit(3, late, "alone/checkpoint-6")
        assert [row["epoch"] for row in late.rows] == [2, 3]
