"""Lagzi (2021), "Residual networks classify inputs based on their neural transient dynamics"."""

from pathlib import Path

from resdyn.papers.paper import Paper
from resdyn.papers.transient_dynamics import accuracy, depth, starts

SCRIPTS = {"accuracy": accuracy.run, "depth": depth.run, "starts": starts.run}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
