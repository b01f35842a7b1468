"""Transport against dense derivatives of the original module, by definition; errors, resumption, merging."""

import os
import subprocess
import sys
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import resdyn
from resdyn.errors import InputError, StoreError
from resdyn.nets import cifar_resnet
from resdyn.transporting import fit, run
from resdyn.transporting.moments import Moments
from resdyn.transporting.positions import valid_positions

T = 7
SMALL = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@contextmanager
def replaced(module, value):
    """The output of a module is `value`, in the arrangement that it returns."""

    def hook(_, __, output):
        return (value, *output[1:]) if isinstance(output, tuple) else value

    handle = module.register_forward_hook(hook)
    yield
    handle.remove()


@contextmanager
def seen(module, found):
    handle = module.register_forward_hook(lambda _, __, o: found.append(o[0] if isinstance(o, tuple) else o))
    yield
    handle.remove()


def dense(model, source, target, *args, **kwargs):
    """d output of `target` / d output of `source` of the module itself, at one sample, without the batch of one."""
    at = []
    with seen(source, at), torch.no_grad():
        model(*args, **kwargs)

    def rest(h):
        found = []
        with replaced(source, h[None]), seen(target, found):
            model(*args, **kwargs)
        return found[0][0]

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.func.jacrev(rest)(at[0][0])


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=3, n_head=2, n_positions=16, use_cache=False, **SMALL))
    return model, model.transformer.h


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, head_dim=4, use_cache=False, **sizes, **SMALL))
    return model, model.model.layers


def neox():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(use_parallel_residual=True, use_cache=False, **sizes, **SMALL))
    return model, model.gpt_neox.layers


def bert():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = BertModel(BertConfig(max_position_embeddings=16, **sizes, **SMALL))
    return model, model.encoder.layer


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes))
    layers = model.vit.layers if hasattr(model.vit, "layers") else model.vit.encoder.layer
    return model, layers


def mamba():
    from transformers import MambaConfig, MambaForCausalLM

    sizes = {"hidden_size": 8, "state_size": 2, "num_hidden_layers": 2, "conv_kernel": 2, "time_step_rank": 2}
    model = MambaForCausalLM(MambaConfig(use_cache=False, **sizes, **SMALL))
    return model, model.backbone.layers


FAMILIES = {"gpt2": gpt2, "llama": llama, "neox": neox, "bert": bert, "vit": vit, "mamba": mamba}


@cache
def built(name):
    torch.manual_seed(0)
    model, layers = FAMILIES[name]()
    for parameter in model.parameters():  # away from the identity of small weights
        parameter.data += 0.3 * torch.randn_like(parameter)
    model = model.double().eval()
    tokens = 4 if name == "mamba" else T  # its scan is a loop
    data = torch.randn(2, 3, 8, 8).double() if name == "vit" else torch.randint(3, 40, (2, tokens))
    return model, layers, data, resdyn.find_stream(model, data, granularity="layer")


@pytest.mark.parametrize("name", FAMILIES)
def test_sum_and_self_are_reductions_of_the_dense_derivative_of_the_module(name, monkeypatch):
    model, layers, data, stream = built(name)
    monkeypatch.setattr(run, "TRACED_ROWS", 0 if name in ("gpt2", "bert") else 10**6)
    last, close = len(layers) - 1, {"rtol": 1e-6, "atol": 1e-7} if name == "mamba" else {}  # a scan in single precision
    assert len(stream) == len(layers)
    found = {
        reduction: resdyn.transport(
            model, data, reduction=reduction, skip_first=1, skip_last=1, stream=stream, show_progress=False
        )
        for reduction in ("sum", "self")
    }
    for layer in range(last):
        whole = [dense(model, layers[layer], layers[last], x[None]) for x in data]
        tokens = len(whole[0])
        valid = range(1, tokens - 1)
        for reduction, lens in found.items():
            pairs = [(t, u) for t in valid for u in (valid if reduction == "sum" else [t])]
            each = [sum(J[u, :, t] for t, u in pairs) / len(valid) for J in whole]
            torch.testing.assert_close(lens[layer + 1], sum(each) / 2, **close)
            spread = torch.stack(each).std(0, correction=1) / 2**0.5
            torch.testing.assert_close(lens.standard_error(layer + 1), spread, **close)
    assert found["sum"].dataset.attrs["causal"] == (name not in ("bert", "vit"))


def test_targets_can_be_averaged_and_logits_be_the_target():
    model, layers, data, stream = built("gpt2")
    asked = {"skip_first": 1, "skip_last": 1, "stream": stream, "show_progress": False, "depths": [1]}
    lens = resdyn.transport(model, data[:1], average_targets=True, **asked)
    logits = resdyn.transport(model, data[:1], to="logits", **asked)
    middle = resdyn.transport(model, data[:1], to=2, **asked)
    valid = range(1, T - 1)
    J = dense(model, layers[0], layers[2], data[:1])
    each = [sum(J[u, :, t] for u in valid if u >= t) / sum(u >= t for u in valid) for t in valid]
    torch.testing.assert_close(lens[1], sum(each) / len(valid))
    K = dense(model, layers[0], model.lm_head, data[:1])
    torch.testing.assert_close(logits[1], sum(K[u, :, t] for t in valid for u in valid) / len(valid))
    M = dense(model, layers[0], layers[1], data[:1])
    torch.testing.assert_close(middle[1], sum(M[u, :, t] for t in valid for u in valid) / len(valid))


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_padding_does_not_change_a_lens(name):
    model, _, data, stream = built(name)
    padded = torch.cat([data, torch.zeros(2, 3, dtype=data.dtype)], 1)
    mask = (padded != 0).long()
    asked = {"skip_first": 2, "show_progress": False}
    plain = resdyn.transport(model, data, stream=stream, **asked)
    lens = resdyn.transport(model, {"input_ids": padded, "attention_mask": mask}, **asked)
    assert lens.dataset.attrs["positions"]["valid_most"] == T - 3
    for depth in plain:
        torch.testing.assert_close(lens[depth], plain[depth])


def test_a_sample_without_a_valid_position_is_refused_by_name():
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]]).bool()
    with pytest.raises(InputError, match="sample 7 has 2 tokens, of which none is left without the first 1"):
        valid_positions(mask, 1, 1, [5, 7])
    model, _, data, stream = built("gpt2")
    with pytest.raises(InputError, match=f"sample 0 has {T} tokens, .* the first 16 and the last 1"):
        resdyn.transport(model, data, stream=stream, show_progress=False)


def test_whole_states_and_channels_of_images():
    torch.manual_seed(0)
    net = cifar_resnet(8, width=2, classes=3).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn_like(module.running_mean)
            module.weight.data += 0.2 * torch.randn_like(module.weight)
    data = torch.randn(2, 3, 8, 8).double()
    stream = resdyn.find_stream(net, data, granularity="join")
    blocks = [module for module in net.modules() if type(module).__name__ == "CifarBlock"]
    asked = {"stream": stream, "show_progress": False, "depths": [1, len(stream) - 1]}
    flat = resdyn.transport(net, data, reduction="flat", **asked)
    pool = resdyn.transport(net, data, **asked)
    classes = resdyn.transport(net, data, to="logits", **asked)
    assert pool.dataset.attrs["reduction"] == classes.dataset.attrs["reduction"] == "pool"
    for depth in asked["depths"]:
        whole = [dense(net, blocks[depth - 1], blocks[-1], x[None]) for x in data]
        out, size = whole[0].shape[:3].numel(), whole[0].shape[3:].numel()
        torch.testing.assert_close(flat[depth], sum(whole).reshape(out, size) / 2)
        torch.testing.assert_close(pool[depth], sum(J.mean((1, 2)).sum((2, 3)) for J in whole) / 2)
        heads = [dense(net, blocks[depth - 1], net, x[None]) for x in data]
        torch.testing.assert_close(classes[depth], sum(J.sum((2, 3)) for J in heads) / 2)


def test_a_stream_of_vectors_is_equation_ten():
    """For logits of a flat state, K times the product of the layers' derivatives, at every sample."""
    torch.manual_seed(0)
    net = resdyn.nets.LogisticResNet(in_features=6, width=5, depth=4, classes=3).double().eval()
    data = torch.randn(3, 6).double()
    lens = resdyn.transport(net, data, to="logits", show_progress=False)
    stream = resdyn.find_stream(net, data)
    each = [resdyn.stream.sensitivity(stream, stream.states(x[None])) for x in data]
    assert lens.dataset.attrs["reduction"] == "flat"
    for depth in range(5):
        torch.testing.assert_close(lens[depth], torch.stack([S[depth] for S in each]).mean(0))


MLP = {"in_features": 3, "width": 4, "depth": 3, "classes": 2}


def fitting():
    torch.manual_seed(0)
    model, data = resdyn.nets.ResidualMLP(**MLP).double().eval(), torch.randn(12, 3).double()
    return model, data, partial(resdyn.transport, model, stream=resdyn.find_stream(model, data), show_progress=False)


@pytest.fixture(scope="module")
def mlp():
    return fitting()


def same(one, other):
    assert one.num_samples == other.num_samples
    for depth in one:
        torch.testing.assert_close(one[depth], other[depth])
        torch.testing.assert_close(one.standard_error(depth), other.standard_error(depth))
        torch.testing.assert_close(one.noise(depth), other.noise(depth))


def test_a_run_that_was_stopped_resumes_and_equals_one_that_was_not(mlp, tmp_path, monkeypatch):
    _, data, fitted = mlp
    whole = fitted(data, chunk_size=5)
    original, calls = fit.run_transport_task, []

    def stopping(job, task, tick):
        calls.append(task.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(job, task, tick)

    monkeypatch.setattr(fit, "run_transport_task", stopping)
    with pytest.raises(KeyboardInterrupt):
        fitted(data, tmp_path / "lens.zarr", chunk_size=5)
    with pytest.raises(InputError, match="is not finished: 1 tasks remain"):
        resdyn.load_transport(tmp_path / "lens.zarr")
    resumed = fitted(data, tmp_path / "lens.zarr", chunk_size=5)
    assert calls == [0, 1, 2, 2]
    same(resumed, whole)
    same(resdyn.load_transport(tmp_path / "lens.zarr"), whole)
    again = fitted(data, tmp_path / "lens.zarr", chunk_size=5)
    assert len(calls) == 4
    same(again, whole)
    with pytest.raises(StoreError, match="other settings: seed: stored 0, asked 1"):
        fitted(data, tmp_path / "lens.zarr", chunk_size=5, seed=1)


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, {tests!r})
import test_transport as t

_, data, fitted = t.fitting()
replace = os.replace

def killed_at(path, write):
    writes = iter(range(10**6))
    def counting(source, target):
        if next(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(source, target)
    os.rename, pathlib.Path.replace = counting, counting
    fitted(data, path, chunk_size=5)

for write in range(9, 10**6, 40):
    path = pathlib.Path({root!r}) / f"s{{write:03}}"
    child = os.fork()
    if child == 0:
        killed_at(path, write)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    fitted(data, path, chunk_size=5)
    print(status)
    if status == 0:
        break
"""


def test_a_fit_killed_at_any_moment_is_finished_by_the_same_call(mlp, tmp_path):
    """SIGKILL, so that nothing tidies up: between the writes of stores, and of the result in their place."""
    script = KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork does not survive OpenMP's threads
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env=alone)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[-1] == "0"
    assert ran.stdout.split().count("9") >= 2
    whole = mlp[2](mlp[1], chunk_size=5)
    for path in tmp_path.glob("s*"):
        same(resdyn.load_transport(path), whole)


def test_disjoint_samples_merge_to_one_run_and_shared_ones_are_refused(mlp, tmp_path):
    _, data, fitted = mlp
    whole = fitted(data)
    parts = [fitted(data, samples=range(*p)) for p in ((0, 5), (5, 6), (6, 12))]
    same(resdyn.merge_transports(parts, tmp_path / "merged.zarr"), whole)
    same(resdyn.load_transport(tmp_path / "merged.zarr"), whole)
    with pytest.raises(InputError, match="1 samples are in more than one"):
        resdyn.merge_transports([whole, parts[1]])
    other = fitted(data[:2], to=2)
    with pytest.raises(InputError, match="differ in depths"):
        resdyn.merge_transports([parts[0], other])


def test_it_stops_when_the_error_is_small_enough(mlp):
    _, data, fitted = mlp
    full = fitted(data, chunk_size=2)
    goal = 1.2 * max(full.relative_error.values())
    lens = fitted(data, chunk_size=2, until=goal)
    assert max(lens.relative_error.values()) <= goal
    assert lens.num_samples < 12
    assert len(lens.dataset.attrs["sample_digests"]) == lens.num_samples


def test_standard_errors_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered, noise = [], []
    for _ in range(400):
        moments = Moments.empty((3, 2), "float64")
        for x in rng.exponential(size=(30, 3, 2)):
            moments.add(x, rng.choice([-1, 1]))
        covered.append(np.abs(moments.mean - 1) < 2.045 * moments.standard_error)  # 95 % of t, 29 degrees
        noise.append(moments.noise)
    assert 0.90 < np.mean(covered) < 0.97
    assert np.var(noise) == pytest.approx(1 / 30, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depths": [3]}, None),
        ({"depths": [4]}, "expected different depths from 0 to 3"),
        ({"depths": [0, 0]}, "expected different depths"),
        ({"to": 0}, "got to=0"),
        ({"to": "end"}, "expected 'final' or 'logits'"),
        ({"reduction": "sum"}, "expected \\(tokens, width\\)"),
        ({"reduction": "mean"}, "'sum', 'self', 'flat' or 'pool'"),
        ({"skip_first": 2}, "skip_first with reduction='flat', which has no positions"),
        ({"until": 0}, "got until=0"),
        ({"samples": 13}, "got 13 samples, expected between 1 and the 12"),
        ({"store": "x", "overwrite": 1}, "expected True or False"),
    ],
)
def test_what_does_not_fit_is_said(mlp, settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, data, fitted = mlp
    if words is None:
        lens = fitted(data[:2], **settings)
        torch.testing.assert_close(lens[3], torch.eye(4).double())
        assert lens.relative_error == {3: 0.0}
        return
    with pytest.raises(InputError, match=words):
        fitted(data, **settings)
