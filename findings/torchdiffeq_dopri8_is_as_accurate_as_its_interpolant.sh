#!/usr/bin/env bash
# torchdiffeq 0.2.5, torch 2.13.0. At the times that are asked for, the end included, `dopri8` and `bosh3` miss their tolerance
# by a factor that grows without bound as it is made smaller.
#
# Guess before the run: a solver of order 8 at rtol = atol = 1e-9 is off by ten or a hundred times that after three periods of
# an oscillator, as SciPy's is, and a smaller tolerance leaves the factor as it is.
#
# Seen, largest error over the tolerance at the requested times, y'' = -y up to t = 20, and evaluations of the right-hand side:
#   tolerance   dopri5      dopri8       dopri8, option step_t    bosh3
#   1e-3        21 (110)    17 (106)     1e-6 (535)               75
#   1e-6        15 (398)    190 (236)    1e-3 (535)               240
#   1e-9        14 (1574)   2600 (535)   1.2 (574)                2100
# Requested times do not end a step; they are read from a polynomial of degree 4 through the step, whatever the order of the
# solver, and long steps of order 8 are worse for it. That holds for the last time too, so asking for the end alone does not help.
# `options={"step_t": t}` makes steps end there: at 1e-9 the error falls by 2,000 for 7 % more evaluations.
#
# Who is hit: neural ODEs, flows and reference solutions computed with `dopri8` because it is the accurate one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchdiffeq==0.2.5 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy
import torch
import torchdiffeq
from scipy.integrate import solve_ivp

print("torchdiffeq", torchdiffeq.__version__, "torch", torch.__version__, "scipy", scipy.__version__)
matrix = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
start = torch.tensor([0.0, 1.0], dtype=torch.float64)
times = torch.linspace(0, 20, 41, dtype=torch.float64)


def solved(method, tolerance, times, step=False):
    """Largest error at the times over the tolerance, and evaluations of the right-hand side."""
    calls = []

    def field(_, y):
        calls.append(1)
        return y @ matrix.T

    options = {"step_t": times} if step else None
    y = torchdiffeq.odeint(field, start, times, rtol=tolerance, atol=tolerance, method=method, options=options)
    exact = torch.stack([times.sin(), times.cos()], 1)
    return float((y - exact).abs().max()) / tolerance, len(calls)


def by_scipy(tolerance):
    y = solve_ivp(lambda _, y: matrix.numpy() @ y, (0, 20), start.numpy(), "DOP853", times.numpy(), rtol=tolerance, atol=tolerance).y
    return float(np.abs(y - np.stack([np.sin(times), np.cos(times)])).max()) / tolerance


found = {}
for tolerance in (1e-3, 1e-6, 1e-9):
    for method, step in (("dopri5", False), ("dopri8", False), ("dopri8", True), ("bosh3", False), ("bosh3", True)):
        found[method, step, tolerance] = solved(method, tolerance, times, step)
        error, calls = found[method, step, tolerance]
        print(f"tolerance {tolerance:.0e}, {method}{', step_t' if step else '':8} {error:8.1e} times it, {calls} evaluations")
    print(f"tolerance {tolerance:.0e}, SciPy's DOP853 {by_scipy(tolerance):.1e} times it")
end, _ = solved("dopri8", 1e-9, times[[0, -1]])
print(f"the end alone, dopri8 at 1e-9: {end:.1e} times it")
assert found["dopri5", False, 1e-9][0] < 30
assert found["dopri8", False, 1e-9][0] > 1000 > 100 > found["dopri8", False, 1e-3][0]
assert found["dopri8", True, 1e-9][0] < 10
assert found["dopri8", True, 1e-9][1] < 1.2 * found["dopri8", False, 1e-9][1]
assert found["bosh3", False, 1e-9][0] > 10 * found["bosh3", True, 1e-9][0]
assert end > 100
assert by_scipy(1e-9) < 100
print("as described: the interpolant decides")
PYTHON
