"""Lens files: written, read, refused; and other programs that read ours and agree."""

import warnings
from functools import cache

import pytest
import torch

import resdyn
from resdyn.errors import InputError


@cache
def fitted():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 3, "n_head": 2, "n_positions": 16, "use_cache": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes)).eval()
    data = torch.randint(3, 40, (3, 7))
    return resdyn.transport(model, data, skip_first=1, seed=0, show_progress=False)


@pytest.mark.parametrize("name", ["lens.pt", "lens.safetensors"])
def test_what_is_saved_is_loaded(name, tmp_path):
    lens = fitted()
    path = lens.save(tmp_path / name, dtype=torch.float32)
    loaded = resdyn.load_transport(path)
    assert list(loaded) == [1, 2]  # outputs of the layers before the last
    assert (loaded.num_samples, loaded.target) == (3, 3)
    assert loaded.dataset.attrs["definition"] == lens.dataset.attrs["definition"]
    for depth in loaded:
        torch.testing.assert_close(loaded[depth], lens[depth])
        assert loaded.standard_error(depth).isnan().all()
    assert loaded.relative_error[1] != loaded.relative_error[1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_plain_tensors_and_numbers_in_half_precision(tmp_path):
    lens = fitted()
    content = torch.load(lens.save(tmp_path / "lens.pt"), weights_only=True)
    assert set(content) == {"J", "n_prompts", "source_layers", "d_model", "metadata"}
    assert (content["n_prompts"], content["source_layers"], content["d_model"]) == (3, [0, 1], 8)
    assert content["J"][0].dtype == torch.float16
    torch.testing.assert_close(content["J"][0].float(), lens[1], rtol=1e-3, atol=1e-3)


def test_a_checkpoint_of_sums_is_divided_only_when_asked(tmp_path):
    sums = {0: torch.eye(4) * 6, 1: torch.ones(4, 4)}
    path = tmp_path / "fit.pt"
    torch.save({"jacobian_sum": sums, "n_done": 3, "next_idx": 3, "source_layers": [0, 1]}, path)
    with pytest.raises(InputError, match="holds sums over prompts, not a lens; pass divide=True"):
        resdyn.load_transport(path)
    lens = resdyn.load_transport(path, divide=True)
    assert lens.num_samples == 3
    torch.testing.assert_close(lens[1], 2 * torch.eye(4))


GOOD = {"J": {0: torch.eye(3)}, "n_prompts": 2, "source_layers": [0], "d_model": 3}


class Harmless:
    """An object that a file of plain tensors does not hold."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": torch.ones(2)}, "holds weights; expected the key 'J'"),
        (torch.ones(2), "holds a Tensor, expected a mapping"),
        (GOOD | {"J": {}}, "expected the key 'J'"),
        (GOOD | {"J": {"first": torch.eye(3)}}, "one matrix per layer number"),
        (GOOD | {"J": {0: torch.ones(3)}}, "one matrix per layer"),
        (GOOD | {"J": {0: torch.ones(3, 2)}}, "layer 0 is \\(3, 2\\)"),
        (GOOD | {"d_model": 4}, "layer 0 is \\(3, 3\\), expected \\(3, 3\\) and d_model=3"),
        (GOOD | {"n_prompts": 0}, "n_prompts=0"),
        (GOOD | {"J": {0: torch.full((3, 3), torch.nan)}}, "not of finite"),
        (GOOD | {"extra": Harmless()}, "of plain tensors and numbers alone; nothing in it was run"),
        ({"jacobian_sum": {0: torch.eye(2)}, "n_done": 0}, "n_done=0"),
    ],
)
def test_another_file_is_refused(content, words, tmp_path):
    path = tmp_path / "lens.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=words):
        resdyn.load_transport(path, divide=True)


def test_damaged_files_and_other_places_are_refused(tmp_path):
    for name in ("lens.pt", "lens.safetensors"):
        (tmp_path / name).write_bytes(b"not a lens")
        with pytest.raises(InputError):
            resdyn.load_transport(tmp_path / name)
    with pytest.raises(InputError, match="no store at"):
        resdyn.load_transport(tmp_path / "nothing.zarr")
    with pytest.raises(InputError, match=r"ends in \.pt or \.safetensors"):
        fitted().save(tmp_path / "lens.npz")
    with pytest.raises(InputError, match="floating-point dtype"):
        fitted().save(tmp_path / "lens.pt", dtype=torch.int64)


def test_what_a_lens_file_cannot_hold_is_not_written(tmp_path):
    torch.manual_seed(0)
    net = resdyn.nets.ResidualMLP(in_features=3, width=4, depth=3, classes=2).eval()
    classes = resdyn.transport(net, torch.randn(3, 3), to="logits", show_progress=False)
    with pytest.raises(InputError, match="a lens file holds layers of a transformer"):
        classes.save(tmp_path / "lens.pt")
    assert not list(tmp_path.iterdir())


def test_entroptics_jlens_reads_our_file_and_finds_the_same_identity_share(tmp_path):
    client = pytest.importorskip("entroptics_jlens", reason="the extra `lens` is not installed")
    lens = fitted()
    read = client.load_lens(lens.save(tmp_path / "lens.pt", dtype=torch.float32))
    for layer in (0, 1):
        J = lens[layer + 1].double().numpy()
        found = client.decompose(read.jacobian(layer))
        alpha = J.trace() / 8
        assert found.alpha == pytest.approx(alpha, rel=1e-5)
        assert found.removed_energy == pytest.approx(8 * alpha**2 / (J**2).sum(), rel=1e-5)


def test_transformer_lens_reads_our_file_and_its_own_fit_agrees(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = pytest.importorskip(
            "transformer_lens.tools.analysis", reason="the extra `lens` is not installed", exc_type=ImportError
        )
    lens = fitted()
    read = analysis.JacobianLens.load(str(lens.save(tmp_path / "lens.pt", dtype=torch.float32)))
    assert (read.source_layers, read.n_prompts, read.d_model) == ([0, 1], 3, 8)
    for layer in (0, 1):
        torch.testing.assert_close(read.jacobians[layer], lens[layer + 1])


def test_the_command_fits_saves_and_resumes(tmp_path, capsys):
    import json

    from resdyn.cli.app import run

    command = ["transport", "resdyn:mlp,in_features=64,width=8,depth=2", "--data", "digits", "--samples", "3", "--json"]
    command += ["--out", str(tmp_path / "lens.zarr"), "--device", "cpu"]
    assert run(command) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    lens = resdyn.load_transport(tmp_path / "lens.zarr")
    assert found["num_samples"] == lens.num_samples == 3
    assert [row["depth"] for row in found["depths"]] == list(lens)
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out) == found


def tiny(kind, ids):
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    common = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=3, n_head=2, n_positions=ids.shape[1], **common)).eval()
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, head_dim=4, **sizes, **common)).eval()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_fit_of_transformer_lens_is_ours_to_rounding(kind, tmp_path):
    reason = "the extra `lens` is not installed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bridges = pytest.importorskip("transformer_lens.model_bridge", reason=reason, exc_type=ImportError)
        from tokenizers import Tokenizer, models
        from transformer_lens.tools.analysis import JacobianLens
        from transformers import PreTrainedTokenizerFast

        ids = torch.randint(2, 40, (2, 24), generator=torch.Generator().manual_seed(0))
        model = tiny(kind, ids)
        model.save_pretrained(tmp_path)
        words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(40)}, unk_token="t1"))
        special = {"bos_token": "t0", "eos_token": "t0", "pad_token": "t0", "unk_token": "t1"}
        PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(tmp_path)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
        bridge = bridges.TransformerBridge.boot_transformers(
            str(tmp_path), hf_model=tiny(kind, ids), tokenizer=tokenizer, device="cpu"
        ).eval()
        rows = {str(n): row[None] for n, row in enumerate(ids)}
        object.__setattr__(bridge, "to_tokens", lambda prompt, **_: rows[prompt])
        theirs = JacobianLens.fit(bridge, list(rows), corpus="random", show_progress=False)
    ours = resdyn.transport(model, ids, show_progress=False)  # both leave out the first 16 tokens and the last
    for layer in (0, 1):
        torch.testing.assert_close(ours[layer + 1], theirs.jacobians[layer])
