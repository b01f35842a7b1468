#!/usr/bin/env bash
# scipy 1.17.1, CPU. `scipy.sparse.linalg.svds` squares `tol`, so that a small one asks for more than the strictest setting.
#
# Guess before the run: `tol` is the relative accuracy of the singular values, 0 (working precision) is the most
# expensive setting, and 1e-10 needs fewer products with the matrix than 0; 1e-2 gives about two digits.
#
# Seen: with ARPACK tol=1e-10 takes 136 products where tol=0 takes 108 in float64 and 78 in float32, at the same
# error: 1e-20 is handed on, which no residual can reach, while 0 stands for the precision of the matrix's type. At tol=1e-2
# the values are right to 1e-15 with ARPACK and to 9e-7 with PROPACK, whose tolerance is squared as well.
#
# Who is hit: whoever compares solvers at equal `tol`, or passes one in float32 as low as 1e-8 to be on the safe side. A
# comparison has to be made at equal true error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy
from scipy.sparse.linalg import LinearOperator, svds

print("scipy", scipy.__version__)
assert scipy.__version__ == "1.17.1"
rng = np.random.default_rng(0)
left, right = (np.linalg.qr(rng.standard_normal((400, 400)))[0] for _ in range(2))
exact = 1 / np.sqrt(np.arange(1, 401))


def cost_and_error(dtype, solver, tol):
    matrix, products = (left * exact @ right.T).astype(dtype), [0]

    def times(A, x):
        products[0] += 1
        return A @ x

    operator = LinearOperator(
        matrix.shape, matvec=lambda x: times(matrix, x), rmatvec=lambda x: times(matrix.T, x), dtype=dtype
    )
    values = np.sort(svds(operator, k=10, solver=solver, tol=tol, rng=np.random.default_rng(1))[1])[::-1]
    error = float(np.abs(values / exact[:10] - 1).max())
    print(f"{np.dtype(dtype).name} {solver:7s} tol {tol:g}: {products[0]} products, relative error {error:.1e}")
    return products[0], error


for dtype, least in ((np.float64, 1.1), (np.float32, 1.3)):
    strictest, error = cost_and_error(dtype, "arpack", 0)
    small, same = cost_and_error(dtype, "arpack", 1e-10)
    assert small > least * strictest
    assert max(error, same) < 10 * np.finfo(dtype).eps
assert cost_and_error(np.float64, "arpack", 1e-2)[1] < 1e-12
assert 1e-9 < cost_and_error(np.float64, "propack", 1e-2)[1] < 1e-5
print("as described: tol=1e-10 costs more than tol=0, and tol=1e-2 is far more accurate than it says")
PYTHON
