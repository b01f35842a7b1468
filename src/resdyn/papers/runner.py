"""Runs one experiment of a paper; killed and called again, it resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    null: bool = False,
    networks: Sequence[str] = (),
) -> Result:
    """Run an experiment and write `<folder>/results/<experiment>.<scale>.json`, rewritten with every number found.

    Killed and called again, it resumes. Run for some of its networks, it writes
    `<experiment>.<scale>.<networks>.json`, which claims are judged by beside the results of the others.

    Args:
        paper: The paper.
        experiment: Name of one of its experiments.
        scale: "tiny" checks that the experiment runs, "small" is evidence where a claim says so, "paper" is the
            paper's own size.
        folder: Keeps networks and measurements, shared by all experiments and scales, and not made twice. None:
            `out/papers/<paper>`.
        root: Folder of the datasets. None: that which the environment variable RESDYN_DATA names.
        quiet: Show no progress of captures.
        null: Leave every network untrained, or run what else the experiment's `null_name` says: what the numbers are
            where the claims cannot hold. The result is `<experiment>.<scale>.null.json`, which claims are judged by.
        networks: Labels of the networks to run it for, such as "type1.mnist", where it looks at several one by one.
            Empty: all.

    Returns:
        The result, complete.

    Raises:
        InputError: For an unknown experiment, scale or network, for networks of an experiment that needs all of its
            own, and for data or weights that are not there.

    Example:
        ::

            paper = resdyn.papers.get_paper("residual_alignment")
            result = resdyn.papers.run_experiment(paper, "ra1", scale="tiny")
            result.numbers["type1.mnist.collinearity"].value
    """
    chosen = paper.experiment(experiment)
    if scale not in SCALES:
        raise InputError(f"got scale '{scale}', expected one of {', '.join(SCALES)}")
    folder = folder or default_folder(paper.name)
    part = list(dict.fromkeys(networks))
    name = ".".join([experiment, scale, *(["+".join(part)] if part else []), *(["null"] if null else [])])
    path = folder / "results" / f"{name}.json"
    result = Result(paper.name, experiment, scale, path, null, part, provenance=provenance(seed=0))
    start = time.monotonic()
    lab = Lab(result, folder / "null" if null else folder, root, quiet, null)
    chosen.run(lab)
    result.provenance["seconds"] = round(time.monotonic() - start + lab.earlier_training, 1)
    result.complete = True
    save_result(result)
    return result


def results_of(paper: Paper, folder: Path | None = None) -> list[Result]:
    """The committed results, and those of later runs in a folder, which take the place of committed ones.

    Args:
        paper: The paper.
        folder: As for `run_experiment`. None: `out/papers/<paper>`.

    Returns:
        One result per experiment, scale and part.

    Raises:
        InputError: For a JSON file that is not a result.
    """
    own = (folder or default_folder(paper.name)) / "results"
    return load_results([paper.folder / "results", own], paper.name)
