"""Anonymous authors, "Block-level stiffness analysis of residual networks" (under double-blind review)."""

from pathlib import Path

from resdyn.papers.paper import Paper
from resdyn.papers.stiffness import beyond, blocks, correlation, counts, euler, geometry, labels, odenet, untrained

SCRIPTS = {
    "blocks": blocks.run,
    "labels": labels.run,
    "correlation": correlation.run,
    "beyond": beyond.run,
    "geometry": geometry.run,
    "untrained": untrained.run,
    "untrained_last": untrained.run_last,
    "counts": counts.run,
    "euler": euler.run,
    "odenet": odenet.run,
}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
