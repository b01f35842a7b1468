#!/usr/bin/env bash
# torch 2.13.0, CPU. Group norm of float32 images gives other numbers in channels_last than in the contiguous format: by 1 %
# where the mean is 300 times the standard deviation, by a factor of 200 where it is 3,000 times.
#
# Guess before the run: a memory format changes speed and the order of sums, so that both formats agree to about
# 1e-7 |mean| / std, as contiguous group norm, instance norm and layer norm do.
#
# Seen, relative to float64, for 32 channels of 16 x 16 in 4 groups with standard deviation 1:
#   mean      contiguous   channels_last   batch norm of a batch, channels_last
#   30        1e-6         8e-5            1e-5
#   300       2e-5         9e-3            2e-4
#   3,000     1e-4         190             1e-3
# In channels_last the error grows as the square of mean / std, as that of E[x^2] - E[x]^2 does; the last row's variance is 0
# for about half of the groups, so that the output is 1 / sqrt(eps) = 316 times too large. The backward pass uses it too.
#
# Who is hit: diffusion U-Nets and ResNets with group norm, which are told to run in channels_last for speed, where an
# activation has an offset; a comparison of the two formats that takes the difference for rounding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torch.nn.functional as F

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"


def error(norm, images, form):
    exact = norm(images.double())
    found = norm(images.contiguous(memory_format=form))
    return float((found.double() - exact).norm() / exact.norm())


NORMS = {
    "group norm": lambda x: F.group_norm(x, 4),
    "instance norm": F.instance_norm,
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
}
torch.manual_seed(0)
noise = torch.randn(4, 32, 16, 16)
found = {}
for mean in (1, 30, 300, 3000):
    for name, norm in NORMS.items():
        for form in (torch.contiguous_format, torch.channels_last):
            found[name, mean, form] = error(norm, mean + noise, form)
            print(f"mean {mean:5}: {name:13} {str(form):25} error {found[name, mean, form]:.1e}")
lossy = {mean: found["group norm", mean, torch.channels_last] for mean in (1, 30, 300, 3000)}
assert all(value < 1e-3 for (_, _, form), value in found.items() if form == torch.contiguous_format)
assert lossy[1] < 1e-6
assert lossy[300] > 20 * lossy[30]
assert lossy[3000] > 10
images = (3000 + noise).contiguous(memory_format=torch.channels_last)
_, _, scale = torch.native_group_norm(images, None, None, 4, 32, 256, 4, 1e-5)
print("1 / standard deviation in channels_last, should be 1:", [round(float(s), 2) for s in scale.flatten()])
assert float(scale.max()) > 300
print("as described: the memory format decides whether group norm has a variance")
PYTHON
