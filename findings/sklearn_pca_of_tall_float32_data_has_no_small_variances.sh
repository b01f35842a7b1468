#!/usr/bin/env bash
# scikit-learn 1.9.1. `PCA()` of float32 features that have collapsed onto their class means: the variances within classes come out
# as exact zeros for some directions and far too large for others, once there are ten samples per feature.
#
# Guess before the run: PCA takes the singular values of the centred data, whose error is about 1e-7 of the largest, so that a
# standard deviation of 1e-4 of the largest is good to a per cent, whatever the number of samples.
#
# Seen, 64 features, 10 class means of size 1, noise of 1e-4 within classes (float32), 54 directions that only noise fills:
#   samples   solver chosen      largest relative error of their variances   exactly 0
#   639       full               3 %                                        0
#   640       covariance_eigh    6,000 %                                    27
# From ten samples per feature (and at most 1,000 features) on, "auto" takes the eigenvalues of the covariance, which squares
# the ratio: variances below 1e-7 of the largest are rounding, and negative ones are set to 0. One sample more decides.
#
# Who is hit: neural collapse and feature geometry measured on float32 activations, where what is asked for is the small
# variances; ratios of within to between, condition numbers, effective ranks. `svd_solver="full"`, or float64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.decomposition import PCA

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
CLASSES, FEATURES, NOISE = 10, 64, 1e-4
random = np.random.default_rng(0)
means = random.normal(size=(CLASSES, FEATURES))
found = {}
for samples in (639, 640):
    noise = NOISE * random.normal(size=(samples, FEATURES))
    features = (means[np.arange(samples) % CLASSES] + noise).astype(np.float32)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(0)
    exact = np.linalg.svd(centred, compute_uv=False)[CLASSES:] ** 2 / (samples - 1)
    for solver in ("auto", "full"):
        pca = PCA(svd_solver=solver).fit(features)
        small = pca.explained_variance_[CLASSES:]
        worst, zeros = float(np.abs(small / exact - 1).max()), int((small == 0).sum())
        found[samples, solver] = worst, zeros
        print(f"{samples} samples, {solver} ({pca._fit_svd_solver}): largest relative error {worst:.2g}, {zeros} exact zeros")
assert found[639, "auto"] == found[639, "full"]
assert found[639, "auto"][0] < 0.1
assert found[640, "full"][0] < 0.1
assert found[640, "auto"][0] > 1
assert found[640, "auto"][1] > 5
print("as described: one sample more and the small variances are gone")
PYTHON
