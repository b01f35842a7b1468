"""Language models: the stream of one token, layers as blocks, text as data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import resdyn
from resdyn.cli.app import run
from resdyn.data import windows
from resdyn.errors import InputError

VOCABULARY, WIDTH, TOKENS = 11, 6, 5


class Attention(nn.Module):
    """Causal, one head."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.maps(h).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) + torch.full((h.shape[1], h.shape[1]), -1e9).triu(1)
        return scores.softmax(-1) @ v


class Layer(nn.Module):
    """Attention and a feed-forward part, each with a skip of its own: normed before, after, or side by side."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.attention, self.norms = Attention(), nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.feed = nn.Sequential(nn.Linear(WIDTH, 9), nn.GELU(), nn.Linear(9, WIDTH))

    def forward(self, h: Tensor) -> Tensor:
        first, second = self.norms
        if self.layout == "post":
            h = first(h + self.attention(h))
            return second(h + self.feed(h))
        if self.layout == "parallel":
            return h + self.attention(first(h)) + self.feed(second(h))
        h = h + self.attention(first(h))
        return h + self.feed(second(h))


class Language(nn.Module):
    """Token ids (N, T) -> logits (N, T, vocabulary); `shared`: one layer applied three times."""

    def __init__(self, layout: str = "pre", shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.steps = nn.ModuleList(Layer(layout) for _ in range(1 if shared else 3))
        self.end, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        for k in range(3):
            h = self.steps[0 if self.shared else k](h)
        return self.head(self.end(h))


def language(layout: str = "pre", shared: bool = False) -> Language:
    torch.manual_seed(0)
    return Language(layout, shared).double().eval()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (4, TOKENS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def stream(tokens):
    return resdyn.find_stream(language(), tokens)


@pytest.fixture(scope="module")
def measured(tokens, tmp_path_factory):
    return capture_last_token(tokens, tmp_path_factory.mktemp("tokens") / "s.zarr")


def capture_last_token(tokens, store, **options):
    probes = "trajectory,singular(k=4,vectors=true),coupling"
    return resdyn.capture(
        language(), tokens, probes, store, samples=3, position=-1, granularity="layer", show_progress=False, **options
    )


class TestPosition:
    @pytest.mark.parametrize("kind", ["gated", "branch", "block"])
    @pytest.mark.parametrize("position", [-1, 0, 2, (4, 1), (-1, -3)])
    def test_is_the_block_of_the_dense_jacobian_of_all_tokens(self, stream, tokens, kind, position):
        to, of = position if isinstance(position, tuple) else (position, position)
        states = stream.states(tokens[:1])
        whole = stream.jacobian(1, states, kind).to_dense().reshape(TOKENS, WIDTH, TOKENS, WIDTH)
        token = stream.at(position).jacobian(1, stream.at(position).states(tokens[:1]), kind)
        torch.testing.assert_close(token.to_dense(), whole[to, :, of], rtol=1e-12, atol=1e-14)

    def test_is_the_derivative_of_the_model_s_own_layer(self, tokens):
        model = language()
        layers = resdyn.find_stream(model, tokens, granularity="layer")
        h = layers.states(tokens[:1])[1]

        def row(x: Tensor) -> Tensor:
            return model.steps[1](torch.cat([h[:, :2], x[None, None], h[:, 3:]], 1))[0, -1]

        expected = torch.func.jacrev(row)(h[0, 2])
        found = layers.at((-1, 2)).jacobian(1, layers.states(tokens[:1]), "block").to_dense()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    def test_the_future_does_not_move_the_past(self, stream, tokens):
        view = stream.at((0, 3))
        assert not view.jacobian(0, view.states(tokens[:1]), "block").to_dense().any()

    def test_states_and_logits_are_those_of_the_token_that_answers(self, stream, tokens):
        whole, token = stream.states(tokens), stream.at((2, 0)).states(tokens)
        assert all(torch.equal(a[:, 2], b) for a, b in zip(whole, token, strict=True))
        assert torch.equal(token.output, whole.output[:, 2])
        assert torch.equal(token.sample(3)[1], whole[1][3:, 2])

    def test_the_skip_of_a_token_is_the_identity_on_itself_and_zero_on_others(self, stream, tokens):
        states = stream.states(tokens[:1])
        own, other = (stream.at(p).skip_jacobian(0, states).to_dense() for p in (1, (1, 0)))
        assert torch.equal(own, torch.eye(WIDTH, dtype=torch.float64))
        assert not other.any()

    def test_a_position_of_numpy_is_written_down_as_pythons(self, stream):
        assert type(stream.at(np.int64(-1)).position) is int
        assert stream.at((np.int64(1), 0)).position == (1, 0)
        with pytest.raises(InputError, match="got position=True"):
            stream.at(True)

    def test_a_position_that_does_not_exist_is_refused(self, stream):
        for wrong in (TOKENS, -TOKENS - 1, (0, 9), "last", (1, 2, 3)):
            with pytest.raises(InputError, match="got position="):
                stream.at(wrong)

    def test_states_without_tokens_are_refused_with_their_shape(self):
        images = resdyn.find_stream(resdyn.nets.ResidualCNN(depth=2).eval(), torch.randn(1, 3, 32, 32))
        with pytest.raises(InputError, match=r"\(64, 16, 16\): leave out position"):
            images.at(0)

    def test_a_bare_state_is_not_enough(self, stream, tokens):
        with pytest.raises(InputError, match="depends on all tokens"):
            stream.at(0).jacobian(0, stream.states(tokens[:1])[0])


class Cache:
    """What export does not know."""


class Remembering(Language):
    def forward(self, tokens: Tensor) -> dict[str, object]:
        return {"logits": super().forward(tokens), "cache": Cache()}


def test_an_output_beside_the_tensors_does_not_matter(tokens, stream):
    torch.manual_seed(0)
    found = resdyn.find_stream(Remembering().double().eval(), tokens)
    assert found.describe() == stream.describe()
    assert torch.equal(found.states(tokens).output, stream.states(tokens).output)


def test_a_model_of_transformers_is_found_as_it_comes_with_its_cache(tokens):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    assert config.use_cache
    assert len(resdyn.find_stream(transformers.LlamaForCausalLM(config).eval(), tokens)) == 4


class TestGranularity:
    @pytest.mark.parametrize(("layout", "joins"), [("pre", 6), ("post", 6), ("parallel", 3)])
    def test_joins_of_a_layer_become_one_block(self, tokens, layout, joins):
        model = language(layout)
        assert len(resdyn.find_stream(model, tokens)) == joins
        layers = resdyn.find_stream(model, tokens, granularity="layer")
        assert [block.path for block in layers] == ["steps.0", "steps.1", "steps.2"]
        states = layers.states(tokens)
        for layer, block, before, after in zip(model.steps, layers, states[:-1], states[1:], strict=True):
            torch.testing.assert_close(layer(before), after)
            branch = block.branch(before)
            torch.testing.assert_close(branch, layer(before) - before if layout != "parallel" else after - before)
            assert block.skip_kind == "identity"

    @pytest.mark.parametrize("layout", ["pre", "post"])
    def test_its_jacobian_is_the_product_of_those_of_its_joins(self, tokens, layout):
        model = language(layout)
        joins, layers = (resdyn.find_stream(model, tokens, granularity=g) for g in ("join", "layer"))
        states = joins.states(tokens[:1])
        first, second = (joins.jacobian(i, states, "block").to_dense() for i in (2, 3))
        whole = layers.jacobian(1, layers.states(tokens[:1]), "block").to_dense()
        torch.testing.assert_close(whole, second @ first, rtol=1e-10, atol=1e-12)
        branch = layers.jacobian(1, layers.states(tokens[:1]), "branch").to_dense()
        torch.testing.assert_close(branch, whole - torch.eye(TOKENS * WIDTH, dtype=torch.float64))

    def test_a_layer_that_is_applied_again_is_told_by_its_calls(self, tokens):
        layers = resdyn.find_stream(language(shared=True), tokens, granularity="layer")
        assert [block.path for block in layers] == ["steps.0", "steps.0@1", "steps.0@2"]

    def test_blocks_of_one_join_stay_as_they_are(self):
        model, x = resdyn.nets.ResidualCNN(depth=3).eval(), torch.randn(1, 3, 32, 32)
        joins, layers = (resdyn.find_stream(model, x, granularity=g) for g in ("join", "layer"))
        assert joins.describe() == layers.describe()

    def test_another_word_is_refused(self, tokens):
        with pytest.raises(InputError, match="expected 'join'"):
            resdyn.find_stream(language(), tokens, granularity="layers")


class TestCapture:
    def test_of_a_token_holds_its_states_and_triplets(self, measured, tokens):
        stream = resdyn.find_stream(language(), tokens, granularity="layer").at(-1)
        states = stream.states(tokens[[int(measured["sample"][1])]])
        np.testing.assert_allclose(measured["states"][1, 2, :WIDTH], states[2][0], rtol=1e-12)
        dense = torch.linalg.svdvals(stream.jacobian(2, states, "gated").to_dense())
        np.testing.assert_allclose(measured["singular_values"][1, 2], dense[:4], rtol=1e-8)

    def test_says_which_token_and_what_a_block_is(self, measured):
        assert (measured.attrs["position"], measured.attrs["granularity"]) == (-1, "layer")

    def test_without_labels_says_nothing_about_classes(self, measured):
        assert (measured["label"].values == -1).all()
        assert np.isnan(measured["loss"].values).all()
        assert "class_count" not in measured

    def test_is_the_same_in_another_process(self, measured, tokens, tmp_path):
        again = capture_last_token(tokens, tmp_path / "s.zarr", workers=1)
        np.testing.assert_array_equal(again["singular_values"], measured["singular_values"])

    def test_of_another_token_is_not_resumed_into_the_same_store(self, tokens, tmp_path):
        resdyn.capture(
            language(), tokens, "trajectory", tmp_path / "s.zarr", samples=1, position=0, show_progress=False
        )
        with pytest.raises(resdyn.errors.StoreError, match="position"):
            resdyn.capture(
                language(), tokens, "trajectory", tmp_path / "s.zarr", samples=1, position=1, show_progress=False
            )

    def test_of_text_takes_the_next_token_as_the_answer(self, tmp_path):
        text = windows(torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(2)), TOKENS)
        ds = resdyn.capture(
            language(), text, "trajectory", tmp_path / "s.zarr", samples=4, position=-1, show_progress=False
        )
        chosen = torch.tensor(ds["sample"].values)
        logits = language()(text.tokens[chosen])[:, -1]
        loss = nn.functional.cross_entropy(logits, text.following[chosen], reduction="none")
        np.testing.assert_allclose(ds["loss"], loss.detach(), rtol=1e-12)
        np.testing.assert_array_equal(ds["prediction"], logits.argmax(1))

    def test_the_features_probe_needs_labels_and_the_whole_state(self, tokens, tmp_path):
        with pytest.raises(InputError, match="needs labels"):
            resdyn.capture(language(), tokens, "features", tmp_path / "s.zarr")
        with pytest.raises(InputError, match="whole state only"):
            resdyn.capture(language(), (tokens, torch.arange(4)), "features", tmp_path / "s.zarr", position=0)

    def test_report_names_the_token(self, measured, tmp_path):
        page = resdyn.write_report(measured, tmp_path / "r.html").read_text(encoding="utf-8")
        assert "<dt>Token</dt>" in page
        assert "layers" in page


class TestText:
    def test_windows_follow_each_other_and_know_what_comes_next(self):
        data = windows(torch.arange(10), 3)
        assert data.tokens.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        assert data.following.tolist() == [3, 6, 9]

    def test_a_file_is_read_by_the_tokenizer(self, tmp_path):
        (tmp_path / "a.txt").write_text("abcdé", encoding="utf-8")
        data = resdyn.load_text(tmp_path / "a.txt", lambda text: [ord(c) for c in text], 2)
        assert data.tokens.tolist() == [[97, 98], [99, 100]]
        assert (data.name, data.following.tolist()) == ("a.txt", [99, 233])

    @pytest.mark.parametrize(("content", "message"), [(b"ab", "expected at least 5"), (b"\xff\xfe", "UTF-8")])
    def test_what_is_no_text_is_refused(self, tmp_path, content, message):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            resdyn.load_text(tmp_path / "a.txt", lambda text: [ord(c) for c in text], 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A GPT-2 of characters with its tokenizer, as `save_pretrained` writes them, and a text."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("gpt")
    words = Tokenizer(models.WordLevel({c: k for k, c in enumerate("abcdefgh ?")}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=10, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "text.txt").write_text("a bad cab had a fed bee " * 8, encoding="utf-8")
    return folder


class TestCommandLine:
    def command(self, folder, *words):
        return run([*words, "--data", str(folder / "text.txt"), "--tokens", "8"])

    def test_measures_a_language_model_on_a_text_at_its_last_token(self, folder, tmp_path):
        probes = "trajectory,singular(k=2),coupling"
        out = tmp_path / "out"
        code = self.command(
            folder,
            "analyze",
            f"hf:{folder}",
            "--position",
            "-1",
            "--granularity",
            "layer",
            "--samples",
            "3",
            "--probes",
            probes,
            "--out",
            str(out),
        )
        assert code == 0
        ds = resdyn.open(out / "store.zarr")
        assert (ds.sizes["block"], ds.attrs["position"], ds.attrs["data"]) == (2, -1, "text.txt")
        assert np.isfinite(ds["loss"]).all()

    def test_a_model_without_words_says_what_to_do(self, folder, tmp_path, capsys):
        code = self.command(folder, "capture", "resdyn:mlp,width=8,depth=2", "--out", str(tmp_path / "s.zarr"))
        assert code == 2
        assert "encode(text)" in capsys.readouterr().err
