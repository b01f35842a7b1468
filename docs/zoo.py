"""Which families of models resdyn takes apart: writes docs/zoo.md from one run.

    python docs/zoo.py

Every family of tests/zoo.py is built tiny, with random weights, in float32; its stream is found and verified, and the
probes trajectory and singular capture one sample. Packages that cannot be imported leave their families out.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import resdyn  # noqa: E402
from zoo import FAMILIES, Family, Inputs, fed, missing  # noqa: E402

PACKAGES = ("torch", "transformers", "timm", "torchvision")
HEADER = (
    "| family | blocks | inside | states | skip | gate | verified | captured | seconds |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    families = [family for family in FAMILIES if not missing(family.package)]
    rows = {family: row(family) for family in families}
    kinds = dict.fromkeys(family.kind for family in families)
    tables = [table(kind, [line for family, line in rows.items() if family.kind == kind]) for kind in kinds]
    (ROOT / "docs" / "zoo.md").write_text("\n\n".join([head(rows), *tables]) + "\n")


def row(family: Family) -> str:
    """One line of the page; with the reason where something fails."""
    start = time.perf_counter()
    try:
        model, x = family.built(torch.float32)
        stream = fed(partial(resdyn.find_stream, model), x)
    except Exception as error:
        return line(family.name, "0", "", "", "", "", f"no: {type(error).__name__}: {one_line(error)}", "no", start)
    captured = "yes"
    try:
        capture(stream, x)
    except Exception as error:  # whatever it is, the page says so
        captured = f"no: {type(error).__name__}: {one_line(error)}"
    blocks = f"{len(stream)}" if len(stream) == family.blocks else f"{len(stream)} (expected {family.blocks})"
    shapes = dict.fromkeys(" x ".join(map(str, block.shape_in)) for block in stream)
    kinds = (counted(block.skip_kind for block in stream), counted(block.gate_kind for block in stream))
    inside = f"{stream.coverage.operations:.0%}"
    return line(family.name, blocks, inside, ", ".join(shapes), *kinds, "yes", captured, start)


def capture(stream: resdyn.ResidualStream, x: Inputs) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, store = (x, torch.tensor([0])), Path(folder) / "zoo.zarr"
        probes = "trajectory,singular(k=3)"
        resdyn.capture(stream.model, data, probes, store, samples=1, stream=stream, show_progress=False)


def line(*cells: str | float) -> str:
    *texts, start = cells
    text = f"| {' | '.join(map(str, texts))} | {time.perf_counter() - float(start):.1f} |"
    print(text, flush=True)
    return text


def counted(kinds: object) -> str:
    """`identity`, or `identity 3, projection 1` where they differ."""
    counts = Counter(kinds)  # type: ignore[call-overload]
    return ", ".join(counts if len(counts) == 1 else (f"{kind} {count}" for kind, count in counts.items()))


def one_line(error: Exception) -> str:
    return str(error).split("\n")[0].replace("|", "\\|")


def table(kind: str, lines: list[str]) -> str:
    return "\n".join([f"## {kind[0].upper()}{kind[1:]}\n", HEADER, *lines])


def head(rows: dict[Family, str]) -> str:
    captured = sum("| yes | yes |" in line for line in rows.values())
    refused = sum("| no: " in line for line in rows.values())
    other = sum("(expected " in line and "| no: " not in line for line in rows.values())
    as_implied = len(rows) - refused - other
    packages = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if not missing(name)]
    absent = [reason for name in PACKAGES if (reason := missing(name))]
    return f"""# The zoo

Written by `make zoo` (`python docs/zoo.py`) from commit {commit()} on {datetime.date.today()},
{platform.system()} {platform.machine()}, Python {platform.python_version()}, {", ".join(packages)}{
        "; left out: " + "; ".join(absent) if absent else ""
    }.

Each family is one tiny instance with random weights in float32, on one thread; no module of it is named anywhere.
"Blocks" are the residual joins that were found, and "expected" follows where the configuration implies another
number; "inside" is the share of the operations of one sample that they hold: in models as small as these much is in
stems and heads (below 80 % the stream says where). "Verified": every block reproduces the model's own value, and its
forward and reverse products agree.
"Captured": the probes `trajectory` and `singular` measured one sample. "Seconds" cover building, finding, verifying
and capturing, on a machine that others used as well. A state's shape leaves the batch out.

| of {len(rows)} families | |
|---|---|
| found with as many blocks as the configuration implies | {as_implied} |
| found with another number of blocks | {other} |
| refused, with the reason in the table | {refused} |
| of those found, captured | {captured} |"""


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    changed = git("status", "--porcelain", "--", "src", "tests/zoo.py", "docs/zoo.py")
    return git("rev-parse", "--short", "HEAD").strip() + (" with uncommitted changes" if changed else "")


if __name__ == "__main__":
    main()
