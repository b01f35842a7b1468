#!/usr/bin/env bash
# scipy 1.17.1, CPU. `scipy.sparse.linalg.svds` returns triplets of which one residual is at rounding, converged or not.
#
# Guess before the run: with a tolerance of 0.1 both residuals, |A v - s u| and |A^T u - s v|, are of the size of what is
# still wrong, so that either of them, such as the usual check |A V - U S|, shows how far the iteration got.
#
# Seen: for a square or tall matrix |A v - s u| is about 1e-15 at every tolerance, with ARPACK and with LOBPCG, while the
# singular values are off by 7.5e-3 and |A^T u - s v| is 1.1e-2. For a wide matrix it is the other residual that vanishes. The
# solver works with A^T A (or A A^T), and computes the vectors of the other side, and the values, from the ones it found:
# that equation then holds exactly for any vectors whatever.
#
# Who is hit: whoever certifies triplets by one residual. Both sides are needed, and which one is informative depends on the
# shape of the matrix.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy
from scipy.sparse.linalg import aslinearoperator, svds

print("scipy", scipy.__version__)
assert scipy.__version__ == "1.17.1"
rng = np.random.default_rng(0)
left, right = (np.linalg.qr(rng.standard_normal((400, 400)))[0] for _ in range(2))
exact = np.linspace(3, 0.1, 400)
square = left * exact @ right.T


def residuals(matrix, solver, tol):
    u, s, vt = svds(aslinearoperator(matrix), k=4, solver=solver, tol=tol, rng=0)
    forward = np.linalg.norm(matrix @ vt.T - u * s, axis=0).max()
    backward = np.linalg.norm(matrix.T @ u - vt.T * s, axis=0).max()
    error = np.abs(np.sort(s)[::-1] - np.linalg.svd(matrix, compute_uv=False)[:4]).max()
    print(f"{matrix.shape!s:10s} {solver:6s} tol {tol:g}: error {error:.1e}, |Av - su| {forward:.1e}, |A'u - sv| {backward:.1e}")
    return error, forward, backward


for solver in ("arpack", "lobpcg"):
    error, forward, backward = residuals(square, solver, 0.1)
    assert error > 1e-5
    assert forward < 1e-13
    assert backward > 1e-3
_, forward, backward = residuals(square[:, :300], "arpack", 0.1)
assert forward < 1e-13 < 1e-4 < backward
_, forward, backward = residuals(square[:300], "arpack", 0.1)
assert backward < 1e-13 < 1e-4 < forward
print("as described: one of the two residuals is zero by construction, whatever was found")
PYTHON
