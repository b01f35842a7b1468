"""Adaptive depth in other people's loops: Hugging Face's Trainer, Lightning; what these need is skipped plainly."""

import importlib.util

import pytest
import torch
from torch import nn

from resdyn.errors import InputError, MissingExtraError
from resdyn.integrations import lightning as lightning_adapter
from resdyn.integrations import lightning_adaptive_depth
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


class FakeTrainer:
    """What the callback reads of a Lightning Trainer."""

    def __init__(self, *optimizers, **metrics):
        self.optimizers = list(optimizers)
        self.callback_metrics = {name: torch.tensor(value) for name, value in metrics.items()}


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
        trainer = pl.Trainer(max_epochs=epochs, callbacks=[callback], logger=False, enable_progress_bar=False,
                             enable_model_summary=False, default_root_dir=tmp_path, accelerator="cpu")  # fmt: skip
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
            tmp_path / "run", num_train_epochs=epochs, per_device_train_batch_size=8, logging_steps=1, report_to=[],
            save_strategy="epoch", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
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
