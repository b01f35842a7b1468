"""Lagzi (2021), "Residual networks classify inputs based on their neural transient dynamics"."""

from pathlib import Path

from resdyn.papers.paper import Paper
from resdyn.papers.transient_dynamics import (
    accuracy,
    clusters,
    depth,
    equations,
    fixed_points,
    layers,
    lesions,
    noise,
    readout,
    regulariser,
    starts,
    steady,
    transients,
)

SCRIPTS = {
    "accuracy": accuracy.run,
    "transients": transients.run,
    "readout": readout.run,
    "noise": noise.run,
    "equations": equations.run,
    "steady": steady.run,
    "clusters": clusters.run,
    "layers": layers.run,
    "lesions": lesions.run,
    "fixed_points": fixed_points.run,
    "regulariser": regulariser.run,
    "depth": depth.run,
    "starts": starts.run,
}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
