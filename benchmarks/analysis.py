"""What one sample of a capture costs, an earlier build beside this one in one run.

    python benchmarks/analysis.py --weights resnet20.safetensors --data-root datasets [--before b4ad16c]

The earlier build is checked out of git into a temporary folder. Both run in processes of their own, in turns, on one
thread; the table shows CPU seconds (the least of the repetitions) and the share of them that products with Jacobians
took. Lines: a CIFAR-10 test image more in a capture of a trained ResNet-20 with the default probes that need no
classes, and what the first image of a fresh process costs over that (finding the stream, tracing products).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBES = "trajectory,singular,coupling,spectrum"
IMAGE = 3


def measure(weights: str, data_root: str | None) -> dict[str, float]:
    """In the build that is imported: CPU seconds of the first and of a later capture of one image, and of products."""
    import torch

    import resdyn
    from resdyn.stream import JacobianOperator

    torch.set_num_threads(1)
    inside = [0.0]

    def timed(hook):
        def run(self, X):
            start = time.process_time()
            try:
                return hook(self, X)
            finally:
                inside[0] += time.process_time() - start

        return run

    JacobianOperator._matmat = timed(JacobianOperator._matmat)
    JacobianOperator._rmatmat = timed(JacobianOperator._rmatmat)
    loaded = resdyn.load_model("resdyn:cifar_resnet20", weights)
    data = resdyn.load_data("cifar10", "test", root=data_root)

    def capture(stream=None) -> float:
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            resdyn.capture(loaded, data, PROBES, Path(folder) / "s.zarr", samples=[IMAGE], stream=stream)
        return time.process_time() - start

    first = capture()
    stream = resdyn.find_stream(loaded.model, data.prepared(loaded.preprocessing).inputs([IMAGE]))
    capture(stream)
    inside[0] = 0.0
    later = capture(stream)
    return {"first": first, "later": later, "products": inside[0]}


def in_build(source: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """The same in a process that imports resdyn from a folder."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", "--weights", arguments.weights]
    command += ["--data-root", arguments.data_root] if arguments.data_root else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data-root")
    parser.add_argument("--before", default="b4ad16c", help="the earlier build, a commit of this repository")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.weights, arguments.data_root)))
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.before, "src"], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        builds = {arguments.before: Path(folder) / "src", "this build": ROOT / "src"}
        runs = [
            {name: in_build(source, arguments) for name, source in builds.items()} for _ in range(arguments.repetitions)
        ]
    best = {name: min((run[name] for run in runs), key=lambda found: found["later"]) for name in builds}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, least of {arguments.repetitions} runs, CPU seconds\n"
    )
    print(f"| work | {' | '.join(builds)} | share |")
    print("|---|---:|---:|---:|")
    before, now = best.values()
    lines = {"an image more": [found["later"] for found in (before, now)]}
    lines["the first image over a later one"] = [found["first"] - found["later"] for found in (before, now)]
    for work, (old, new) in lines.items():
        print(f"| ResNet-20, {work} | {old:.2f} | {new:.2f} | {new / old:.2f} |")
    shares = [f"{found['products'] / found['later']:.2f}" for found in (before, now)]
    print(f"| of an image more, in products | {' | '.join(shares)} | |")


if __name__ == "__main__":
    main()
