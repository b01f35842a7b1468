#!/usr/bin/env bash
# torchao 0.18.0, torch 2.13.0, CPU. A linear layer quantised by `Int8DynamicActivationInt8WeightConfig` takes a differentiable
# input and gives a differentiable output, with a `grad_fn`; the gradient that comes back to its input is none.
#
# Guess before the run: rounding of activations has no useful derivative, so `backward` raises, or the output does not require
# grad, or the gradient passes straight through as in quantisation-aware training. `Int8WeightOnlyConfig` has the gradient of
# the rounded weights.
#
# Seen: weight-only, the gradient is that of the decoded weights, bit for bit. With int8 activations `backward` raises
# nothing; the input of one layer has grad None, and the Jacobian of a residual block h + W tanh(h) is the identity to the last
# bit: the branch is gone, and every saliency map, adversarial step or Jacobian that runs through such a layer is one of the
# skips alone. Directional finite differences of the same block are those of the branch before it was quantised, to 0.6 %.
#
# Who is hit: whoever differentiates a quantised model with respect to its input or its states.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchao==0.18.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2> "$folder/messages" <<'PYTHON' || { cat "$folder/messages"; exit 1; }
import copy

import torch
import torchao
from torch import nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

print("torch", torch.__version__, "torchao", torchao.__version__)
assert torch.__version__.split("+")[0] == "2.13.0" and torchao.__version__.split("+")[0] == "0.18.0"
torch.manual_seed(0)
WIDTH = 64


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, h):
        return h + self.linear(torch.tanh(h))


plain, h, direction = Block().eval(), torch.randn(1, WIDTH), torch.randn(1, WIDTH)


def quantised(config):
    block = copy.deepcopy(plain)
    quantize_(block, config)
    return block


def jacobian(block):
    return torch.autograd.functional.jacobian(block, h)[0, :, 0]


def decoded(block):
    block = copy.deepcopy(block)
    block.linear.weight = nn.Parameter(block.linear.weight.dequantize())
    return block


def slope(block, step=0.5):
    with torch.no_grad():
        return (block(h + step * direction) - block(h - step * direction)) / (2 * step)


identity = torch.eye(WIDTH)
weights, activations = quantised(Int8WeightOnlyConfig()), quantised(Int8DynamicActivationInt8WeightConfig())
error = (jacobian(weights) - jacobian(decoded(weights))).norm() / jacobian(weights).norm()
print(f"weights alone: difference from the decoded weights' Jacobian {error:.1e}")
assert error < 1e-6  # seen: 0

x = h.clone().requires_grad_()
output = activations.linear(x)
output.sum().backward()
print(f"activations too: output requires grad {output.requires_grad}, {type(output.grad_fn).__name__}; grad of x {x.grad}")
assert output.requires_grad and output.grad_fn is not None and x.grad is None

branch = (jacobian(activations) - identity).norm().item(), (jacobian(plain) - identity).norm().item()
print(f"norm of the block's Jacobian without the identity: {branch[0]} quantised, {branch[1]:.3f} before")
assert branch[0] == 0 and branch[1] > 1

difference = (slope(activations) - slope(plain)).norm() / (slope(plain) - direction).norm()
print(f"finite differences of the branch: {difference:.3f} from those before it was quantised")
assert difference < 0.01
PYTHON
echo "as stated"
