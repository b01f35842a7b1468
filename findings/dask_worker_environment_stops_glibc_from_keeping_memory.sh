#!/usr/bin/env bash
# distributed 2026.7.1 with NumPy 2.4.6 on Linux with glibc. Nothing but an environment variable that dask gives its workers
# makes every array above 128 KiB cost one page fault per 4 KiB, again and again.
#
# Guess before the run: MALLOC_TRIM_THRESHOLD_=65536, which dask's nanny sets for its workers, returns free memory at the top of
# the heap sooner and changes nothing else; a loop that makes and drops arrays of 1 MiB is as cheap in a worker as outside.
#
# Seen: outside, glibc raises its threshold for mmap when the first array is freed, and later arrays reuse the heap: next to no
# page faults. Setting M_TRIM_THRESHOLD, to whatever value, switches that adjustment off (mallopt(3) says so in one
# sentence), so each array is mapped, faulted in page by page and unmapped. With the mmap threshold set as well it is as outside.
#
# Who is hit: CPU work in dask workers on arrays of 128 KiB to 32 MiB, such as small networks: two workers can be slower than
# one process. Remedy: MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ both large in the worker's environment.
set -euo pipefail
case "$(ldd --version 2>&1 | head -1)" in *GLIBC*|*GNU*|*glibc*) ;; *) echo "needs glibc"; exit 2;; esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check distributed==2026.7.1 numpy==2.4.6
cat > "$folder/loop.py" <<'PYTHON'
import resource

import numpy as np


def faults_per_array(count=200, size=2**20):
    for _ in range(3):
        np.ones(size, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(size, np.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count


if __name__ == "__main__":
    print(faults_per_array())
PYTHON
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import os
import subprocess
import sys

import dask
import distributed

print("distributed", distributed.__version__)
assert distributed.__version__ == "2026.7.1"
setting = dask.config.get("distributed.nanny.pre-spawn-environ")
print("dask gives its workers", setting)
assert setting["MALLOC_TRIM_THRESHOLD_"] == 65536


def faults(**extra):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, sys.argv[1] + "/loop.py"]
    return float(subprocess.run(command, env=kept | extra, check=True, capture_output=True, text=True).stdout)


plain = faults()
trimmed = faults(MALLOC_TRIM_THRESHOLD_="65536")
generous = faults(MALLOC_TRIM_THRESHOLD_="1000000000")
both = faults(MALLOC_TRIM_THRESHOLD_="1000000000", MALLOC_MMAP_THRESHOLD_="1000000000")
print(f"page faults per array of 1 MiB: {plain:.1f} outside, {trimmed:.1f} as in a worker")
print(f"with a trim threshold of 1 GB: {generous:.1f}; with the mmap threshold as well: {both:.1f}")
assert plain < 20 and both < 20
assert trimmed > 200 and generous > 200
print("as described: any trim threshold makes every array cost its pages anew")
PYTHON
