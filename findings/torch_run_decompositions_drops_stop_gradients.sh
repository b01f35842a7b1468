#!/usr/bin/env bash
# torch 2.13.0, CPU. Decomposing an exported program removes its stop-gradients: values stay, derivatives change.
#
# Guess before the run: `torch.export` either refuses `torch.no_grad()` inside a forward pass or keeps it, and
# `ExportedProgram.run_decompositions()`, which rewrites operations into simpler ones, keeps the derivative of the program.
#
# Seen: export keeps both `torch.no_grad()` (as a higher-order operator) and `.detach()`; the derivative of the exported module
# is that of the model. After `run_decompositions()` with its default table neither is in the graph: the same outputs, and
# a Jacobian of [[6.8, 2.4], [2.4, 8.2]] where the model's is 5 I. Nothing is raised or printed. The same holds for both
# values of `strict`.
#
# Who is hit: whoever differentiates a decomposed program (sensitivities, Jacobians, fine-tuning of an exported model).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.autograd.functional import jacobian


class UnderNoGrad(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            length = x.norm(dim=-1, keepdim=True)
        return x * length


class Detached(nn.Module):
    def forward(self, x):
        return x * x.norm(dim=-1, keepdim=True).detach()


x = torch.tensor([[3.0, 4.0]])
print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
kept, lost = 5 * torch.eye(2), torch.tensor([[6.8, 2.4], [2.4, 8.2]])
for model in (UnderNoGrad().eval(), Detached().eval()):
    for strict in (False, True):
        program = torch.export.export(model, (x,), strict=strict)
        exported, decomposed = program.module(), program.run_decompositions().module()
        found = [jacobian(f, x).reshape(2, 2) for f in (model, exported, decomposed)]
        print(type(model).__name__, f"strict={strict}", *(matrix.tolist() for matrix in found))
        torch.testing.assert_close(found[0], kept)
        torch.testing.assert_close(found[1], kept)
        torch.testing.assert_close(found[2], lost)
        torch.testing.assert_close(decomposed(x), model(x))
print("as described: the decomposed programs have lost their stop-gradients")
PYTHON
