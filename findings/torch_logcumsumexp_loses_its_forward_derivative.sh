#!/usr/bin/env bash
# torch 2.13.0, CPU. `torch.func.jvp` through `torch.logcumsumexp` loses terms, at the range that scores of an untrained layer
# have; the values and the reverse mode are right. (Reported for one extreme point in pytorch issue 196705; here is how
# ordinary the inputs may be.)
#
# Guess before the run: log(cumsum(exp(x))) is computed stably, so its derivatives are too: both modes agree with the exact
# Jacobian, exp(x_j - y_i) for j <= i, to rounding.
#
# Seen, relative error of the Jacobian of 64 normal numbers:
#   standard deviation    float32 reverse   float32 forward   float64 forward
#   1                     9e-8              5e-8              6e-12
#   5                     3e-7              2e-3              2e-3
#   20                    8e-7              0.4               0.4
# Forward mode divides all terms by the largest of the whole sequence and not by the largest so far, so that early positions
# underflow: their derivative is 0 instead of a softmax over what came before.
#
# Who is hit: Jacobian-vector products through recurrent networks that scan in log space (minGRU, minLSTM, state-space
# models with log gates), in float32 at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.func import jacfwd, jacrev

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
torch.manual_seed(0)
normal = torch.randn(64, dtype=torch.float64)
found = {}
for deviation in (1, 5, 20):
    for dtype in (torch.float32, torch.float64):
        x = (deviation * normal).to(dtype)
        y = torch.logcumsumexp(x.double(), 0)
        exact = torch.exp(x.double() - y[:, None]).tril()
        for mode, jacobian in (("reverse", jacrev), ("forward", jacfwd)):
            error = jacobian(lambda t: torch.logcumsumexp(t, 0))(x).double() - exact
            found[deviation, dtype, mode] = float(error.norm() / exact.norm())
            print(f"standard deviation {deviation:2}, {dtype}, {mode}: {found[deviation, dtype, mode]:.0e}")
assert all(error < 1e-5 for (_, _, mode), error in found.items() if mode == "reverse")
assert found[1, torch.float32, "forward"] < 1e-5
assert found[5, torch.float32, "forward"] > 1e-3
assert found[20, torch.float64, "forward"] > 0.1
print("as described: forward mode loses the early terms")
PYTHON
