#!/usr/bin/env bash
# torch 2.13.0, CPU. Through max_pool and max_unpool with windows that overlap (kernel 3, stride 2), reverse mode gives a
# maximum that two windows share twice its derivative; forward mode gives it once.
#
# Guess before the run: pooling keeps maxima in their places and sets the rest to zero, so the Jacobian is diagonal with ones
# and zeros, in both modes; overlapping windows write the same value into the same place, which changes nothing.
#
# Seen: the value is as guessed, and so are forward mode and finite differences. Reverse mode adds up one copy of the gradient
# per window: 2 at a maximum of two windows in one dimension, up to 4 in two, without a word. Windows of (2, 2) are right.
#
# Who is hit: decoders in the manner of SegNet and DeconvNet with the usual 3 x 3 pooling of stride 2: gradients are too large
# at the strongest features, and products with J and J^T belong to two matrices.
# Reported for repeated indices in general: github.com/pytorch/pytorch/issues/80204 (open).
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


def gradients(kernel, stride, size, dims):
    pool, unpool = (F.max_pool1d, F.max_unpool1d) if dims == 1 else (F.max_pool2d, F.max_unpool2d)

    def kept(x):
        values, places = pool(x, kernel, stride, return_indices=True)
        return unpool(values, places, kernel, stride, output_size=x.shape)

    x = torch.arange(1.0, size**dims + 1, dtype=torch.float64).reshape(1, 1, *(size,) * dims)
    centre = (0, 0, *(size // 2,) * dims)
    x[centre] = 100.0  # the maximum of every window that it lies in
    ones, step = torch.ones_like(x), 1e-6
    along = torch.zeros_like(x)
    along[centre] = 1.0
    forward = torch.func.jvp(kept, (x,), (along,))[1][centre].item()
    reverse = torch.func.vjp(kept, x)[1](ones)[0][centre].item()
    finite = ((kept(x + step * along) - kept(x - step * along)) / (2 * step))[centre].item()
    print(f"{dims}d, kernel {kernel}, stride {stride}: forward {forward:g}, reverse {reverse:g}, finite {finite:.6f}")
    assert abs(finite - 1) < 1e-6 and forward == 1.0
    return reverse


assert gradients(3, 2, 5, 1) == 2.0
assert gradients(3, 2, 5, 2) == 4.0
assert gradients(2, 2, 4, 2) == 1.0
print("as described: the gradient of a shared maximum is counted once per window")
PYTHON
