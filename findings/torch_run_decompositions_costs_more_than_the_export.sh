#!/usr/bin/env bash
# torch 2.13.0, CPU. `ExportedProgram.run_decompositions({})`, with an empty table, does the same work for a program of one
# operation as for any other: it registers 11,474 kernels in Python, for 525 composite operations of which the program has
# one, and takes them out again when it ends.
#
# Guess before the run: decompositions that are not asked for cost nothing, so that for one linear layer the call takes about
# as long as tracing it again, less than `torch.export.export` itself, and registers nothing.
#
# Seen: one linear layer and 12 of them register the same 11,474 kernels, and for one layer the call takes nine times as long as
# the export (0.139 s and 0.015 s of CPU). A table that lists operations changes nothing: what is not in the table is
# registered to be kept, what is in it to be taken apart.
#
# Who is hit: whoever exports many small models (tests, tools that inspect models); a large model hides it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import time

import torch
from torch import nn

print("torch", torch.__version__)
assert torch.__version__.split("+")[0] == "2.13.0"
torch.set_num_threads(1)
registered = []
plain = torch._ops.OperatorBase.py_impl


def counting(self, key):
    registered.append(self)
    return plain(self, key)


def cpu(call):
    begun = time.process_time()
    call()
    return time.process_time() - begun


def measured(layers):
    model, x = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers))).eval(), torch.randn(1, 4)
    program = torch.export.export(model, (x,), strict=False)
    kept = {node.target for node in program.graph.nodes if node.op == "call_function"}
    program.run_decompositions({})  # what is loaded at the first call is not counted
    registered.clear()
    torch._ops.OperatorBase.py_impl = counting
    program.run_decompositions({})
    torch._ops.OperatorBase.py_impl = plain
    once = min(cpu(lambda: torch.export.export(model, (x,), strict=False)) for _ in range(5))
    again = min(cpu(lambda: program.run_decompositions({})) for _ in range(5))
    print(
        f"{layers:2d} layers, {len(kept)} operation: {len(registered)} kernels registered for {len(set(registered))} "
        f"operations; export {once:.3f} s, run_decompositions {again:.3f} s"
    )
    assert len(kept) == 1
    return len(registered), len(set(registered)), again / once


one, twelve = measured(1), measured(12)
assert one[:2] == twelve[:2] and one[0] > 8000 and one[1] > 400
assert one[2] > 1.5
print("as described: the cost is that of all composite operations, whatever the program holds")
PYTHON
