"""CPU seconds until the first line: imports, help, the version and a usage error, beside `import torch` alone.

Each is the median over several fresh processes. Run: python benchmarks/startup.py [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata

PROGRAMS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import resdyn": ["-c", "import resdyn"],
    "import resdyn; resdyn.find_stream": ["-c", "import resdyn; resdyn.find_stream"],
    "import resdyn; resdyn.capture": ["-c", "import resdyn; resdyn.capture"],
    "resdyn --version": ["-m", "resdyn", "--version"],
    "resdyn --help": ["-m", "resdyn", "--help"],
    "resdyn capture --help": ["-m", "resdyn", "capture", "--help"],
    "resdyn analyse (unknown)": ["-m", "resdyn", "analyse"],
}


def cpu_seconds(words: list[str]) -> float:
    """User and system time of one fresh process."""
    before = os.times()
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    subprocess.run([sys.executable, "-c", "import resdyn.papers, resdyn.cli.measure"], check=True)  # files into memory
    print("| | CPU seconds |\n|---|--:|")
    for name, words in PROGRAMS.items():
        print(f"| `{name}` | {statistics.median(cpu_seconds(words) for _ in range(options.runs)):.2f} |", flush=True)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "cyclopts", "resdyn"))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"\n{machine}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
