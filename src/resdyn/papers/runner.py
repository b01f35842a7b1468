"""Runs one experiment of a paper; killed and called again, it resumes."""

from __future__ import annotations

import time
from pathlib import Path

from resdyn.errors import InputError
from resdyn.papers.lab import SCALES, Lab, Scale
from resdyn.papers.paper import Paper
from resdyn.papers.results import Result, load_results, provenance, save_result


def default_folder(paper: str) -> Path:
    """Where checkpoints, stores and results of a paper are kept unless told otherwise."""
    return Path("out") / "papers" / paper


def run_experiment(
    paper: Paper,
    experiment: str,
    scale: Scale = "tiny",
    folder: Path | None = None,
    root: str | None = None,
    quiet: bool = False,
) -> Result:
    """Run an experiment and write `<folder>/results/<experiment>.<scale>.json`, rewritten with every number found.

    Networks and measurements are kept in `folder` (default: `out/papers/<paper>`), shared by all experiments and
    scales, and not made twice. `root` is the folder of datasets (default: RESDYN_DATA).
    """
    chosen = paper.experiment(experiment)
    if scale not in SCALES:
        raise InputError(f"got scale '{scale}', expected one of {', '.join(SCALES)}")
    folder = folder or default_folder(paper.name)
    path = folder / "results" / f"{experiment}.{scale}.json"
    result = Result(paper.name, experiment, scale, path, provenance=provenance(seed=0))
    start = time.monotonic()
    chosen.run(Lab(result, folder, root, quiet))
    result.provenance["seconds"] = round(time.monotonic() - start, 1)
    result.complete = True
    save_result(result)
    return result


def results_of(paper: Paper, folder: Path | None = None) -> list[Result]:
    """The committed results, and those of later runs in `folder`, which take the place of committed ones."""
    own = (folder or default_folder(paper.name)) / "results"
    return load_results([paper.folder / "results", own], paper.name)
