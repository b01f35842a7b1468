"""Yu and Tomasi, "Identity Connections in Residual Nets Improve Noise Stability"."""

from pathlib import Path

from resdyn.papers.identity_connections import (
    blocks,
    cushions,
    degradation,
    dominant,
    equivalence,
    flows,
    probability,
    trivial,
    weights,
)
from resdyn.papers.paper import Paper

SCRIPTS = {
    "degradation": degradation.run,
    "equivalence": equivalence.run,
    "cushions": cushions.layers,
    "blocks": blocks.run,
    "noise": cushions.noise,
    "flows": flows.run,
    "weights": weights.statistics,
    "decay": weights.decay,
    "dominant": dominant.run,
    "trivial": trivial.run,
    "probability": probability.run,
}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
