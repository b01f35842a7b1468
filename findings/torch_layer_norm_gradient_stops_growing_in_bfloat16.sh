#!/usr/bin/env bash
# torch 2.13.0, CPU. In bfloat16 the gradient of a layer norm's bias stops growing at 256 rows per thread, under autocast with
# float32 weights too; so does that of an embedding, at 256 uses of a word. Other layers add up in float32.
#
# Guess before the run: sums over a batch are kept in float32, as for linear layers, convolutions and the other norms, so that
# a gradient in bfloat16 is off by its rounding, 0.4 %; and under autocast, whose weights and gradients are float32, by less.
#
# Seen, 8,192 rows, gradients that arrive as 0.3 + noise of standard deviation 1, relative error of the bias' gradient:
#   layer norm, autocast, 1 thread    59 %, of a gradient that is a float32 tensor
#   batch norm, group norm, autocast  0.006 %
#   linear layer, autocast            0.2 %
# Of gradients that are all 1, 4,096 rows give 256 with one thread and 512 with two: a running sum in bfloat16 takes no
# more ones at 256, and each thread has its own. On GPUs autocast runs layer norm in float32; on CPUs it does not.
#
# Who is hit: transformers fine-tuned or probed on CPUs in bfloat16 or under autocast. Biases of norms, and frequent words,
# learn at a fraction of their rate, which depends on the batch and on the number of threads.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
torch.set_num_threads(1)
ROWS = 8192


def error(layer, x):
    """Relative error of the bias' gradient under autocast with values in bfloat16."""
    gradient = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(1)) + 0.3
    layer.zero_grad()
    layer(x).backward(gradient)
    exact = layer.bias.grad.clone()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x.bfloat16())
    found.backward(gradient.to(found.dtype))
    assert layer.bias.grad.dtype == torch.float32
    return float((layer.bias.grad - exact).norm() / exact.norm())


torch.manual_seed(0)
rows, images = torch.randn(ROWS, 64), torch.randn(8, 64, 32, 32)
layers = {
    "layer norm": (nn.LayerNorm(64), rows),
    "batch norm": (nn.BatchNorm1d(64), rows),
    "group norm": (nn.GroupNorm(4, 64), images),
    "linear": (nn.Linear(64, 64), rows),
}
errors = {name: error(*case) for name, case in layers.items()}
print(f"autocast, {ROWS} rows:", ", ".join(f"{name} {value:.1e}" for name, value in errors.items()))
assert errors.pop("layer norm") > 0.3
assert max(errors.values()) < 0.01

for threads in (1, 2):
    torch.set_num_threads(threads)
    norm = nn.LayerNorm(64).bfloat16()
    norm(torch.randn(4096, 64).bfloat16()).sum().backward()
    print(f"4,096 gradients of 1, bfloat16, {threads} threads: layer norm's bias gets {float(norm.bias.grad[0]):.0f}")
    assert float(norm.bias.grad[0]) == 256 * threads
torch.set_num_threads(1)
words = nn.Embedding(3, 4).bfloat16()
words(torch.zeros(4096, dtype=torch.long)).sum().backward()
linear = nn.Linear(4, 4).bfloat16()
linear(torch.ones(4096, 4).bfloat16()).sum().backward()
print(f"of an embedding's row {float(words.weight.grad[0, 0]):.0f}, of a linear bias {float(linear.bias.grad[0]):.0f}")
assert float(words.weight.grad[0, 0]) == 256
assert float(linear.bias.grad[0]) == 4096
print("as described: layer norm and embedding add up in bfloat16")
PYTHON
