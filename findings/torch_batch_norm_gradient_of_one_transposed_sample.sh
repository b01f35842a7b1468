#!/usr/bin/env bash
# torch 2.13.0, CPU. The gradient of batch norm, for one sample, when it comes back transposed.
#
# Guess before the run: the gradient of BatchNorm2d does not depend on the strides of what comes back to it.
#
# Seen: with a batch of one, and a gradient that comes through flatten(2).transpose(1, 2) (tokens after convolutions), autograd
# returns other numbers than for the same gradient made contiguous, in eval mode and in training; central differences agree with
# the contiguous one. With a batch of two both agree.
#
# Who is hit: vision networks that turn a convolution's output into tokens right after batch norm (EfficientFormer), trained or
# attributed with one sample at a time.
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
torch.manual_seed(0)
for batch in (1, 2):
    for mode in ("eval", "training"):
        norm = nn.BatchNorm2d(8).double().train(mode == "training")
        x = torch.randn(batch, 8, 4, 4, dtype=torch.float64, requires_grad=True)
        u = torch.randn(batch, 16, 8, dtype=torch.float64)
        (transposed,) = torch.autograd.grad(norm(x).flatten(2).transpose(1, 2), x, u)
        (contiguous,) = torch.autograd.grad(norm(x), x, u.transpose(1, 2).reshape(x.shape).contiguous())
        v = torch.randn_like(x)
        with torch.no_grad():
            ends = [float((norm(x + step * v).flatten(2).transpose(1, 2) * u).sum()) for step in (1e-5, -1e-5)]
        difference = (ends[0] - ends[1]) / 2e-5
        numbers = [float((gradient * v).sum()) for gradient in (transposed, contiguous)]
        print(f"batch {batch}, {mode}: transposed {numbers[0]:.6f}, contiguous {numbers[1]:.6f}, differences {difference:.6f}")
        assert abs(numbers[1] - difference) < 1e-6 * max(1.0, abs(difference))
        assert (abs(numbers[0] - difference) > 1e-3) == (batch == 1)
PYTHON
