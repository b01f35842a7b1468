#!/usr/bin/env bash
# torch 2.13.0, CPU. At an input of exactly 0, PReLU has one derivative in forward mode and another in reverse mode.
#
# Guess before the run: at a kink the two modes choose the same one-sided derivative, as they do for ReLU, leaky ReLU, ELU,
# hardtanh, hardswish, abs and clamp; so <J v, u> = <v, J^T u> holds everywhere.
#
# Seen: forward mode gives 1 (the slope of the right-hand side), reverse mode the learned slope (that of the left-hand side).
# The functions above agree, and so does leaky ReLU, which is PReLU with a fixed slope. Exact zeros are not rare: padding,
# masks, states that start at zero and dead channels make them.
#
# Who is hit: solvers that use products with both J and J^T (Lanczos bidiagonalisation, LSQR, Gauss-Newton by jvp and vjp):
# the two belong to different matrices.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.nn import functional as F

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
slope, zero, one = torch.tensor([0.25]), torch.zeros(1), torch.ones(1)
functions = {
    "prelu": lambda x: F.prelu(x, slope), "leaky_relu": lambda x: F.leaky_relu(x, 0.25), "relu": F.relu, "elu": F.elu,
    "abs": torch.abs, "clamp": lambda x: x.clamp(min=0), "hardtanh": lambda x: F.hardtanh(x + 1),
    "hardswish": lambda x: F.hardswish(x + 3),
}
found = {}
for name, function in functions.items():
    forward = torch.func.jvp(function, (zero,), (one,))[1]
    reverse = torch.func.vjp(function, zero)[1](one)[0]
    found[name] = forward.item(), reverse.item()
    print(f"{name:10s} forward {found[name][0]:g}, reverse {found[name][1]:g}")
assert found.pop("prelu") == (1.0, 0.25)
assert all(forward == reverse for forward, reverse in found.values())
print("as described: PReLU alone has two derivatives at 0")
PYTHON
