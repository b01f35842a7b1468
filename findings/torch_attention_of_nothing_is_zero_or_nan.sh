#!/usr/bin/env bash
# torch 2.13.0, CPU. What a query attends to when every key is masked depends on whether attention weights are asked for.
#
# Guess before the run: a softmax over nothing but -inf is NaN, so a query whose keys are all masked (a sequence of padding alone,
# the first row of a strictly causal mask) gives NaN from scaled_dot_product_attention and nn.MultiheadAttention alike.
#
# Seen: scaled_dot_product_attention gives exactly 0 there, with boolean and with additive masks, on every CPU backend, and so
# does its exported and decomposed graph; the gradient is 0 too. nn.MultiheadAttention gives NaN, because it computes weights by
# default; with need_weights=False, the same module at the same input, it gives the output projection's bias, without NaN.
#
# Who is hit: whoever switches need_weights to record attention maps, and whoever looks for padding mistakes by looking for NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as attention

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
torch.manual_seed(0)
q = torch.randn(1, 1, 3, 4)
keep = torch.tensor([[False] * 3, [True] * 3, [True] * 3])
added = torch.zeros(3, 3).masked_fill(~keep, -torch.inf)
print("softmax over -inf alone:", torch.softmax(added[0], 0).tolist())
for name, mask in {"boolean": keep, "additive": added}.items():
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(backend):
            row = attention(q, q, q, attn_mask=mask)[0, 0, 0]
        print(f"{name} mask, {backend.name}: {row.tolist()}")
        assert bool((row == 0).all())
x = q.clone().requires_grad_()
assert bool(torch.autograd.grad(attention(x, x, x, attn_mask=keep).sum(), x)[0].isfinite().all())


class Masked(nn.Module):
    def forward(self, q):
        return attention(q, q, q, attn_mask=keep)


graph = torch.export.export(Masked(), (q,)).run_decompositions()
assert bool((graph.module()(q)[0, 0, 0] == 0).all())

layer = nn.MultiheadAttention(4, 1, batch_first=True).eval()
nn.init.normal_(layer.out_proj.bias)
padding = torch.ones(1, 3, dtype=torch.bool)
with torch.no_grad():
    default = layer(q[0], q[0], q[0], key_padding_mask=padding)[0]
    plain = layer(q[0], q[0], q[0], key_padding_mask=padding, need_weights=False)[0]
print("MultiheadAttention, weights asked for (the default):", default[0, 0].tolist())
print("MultiheadAttention, need_weights=False:", plain[0, 0].tolist())
assert bool(default.isnan().all())
assert torch.equal(plain, layer.out_proj.bias.expand_as(plain))
print("as described: 0 from the function, NaN or the bias from the module")
PYTHON
