"""Figure 6: without skip connections there is no alignment."""

from __future__ import annotations

from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.networks import SEEDS, case, small_data
from resdyn.papers.residual_alignment.twins import compare_twins


def run(lab: Lab) -> None:
    """Types 4a (with skips) and 4b (without), the same data, recipe and seeds."""
    data = small_data(lab.scale)
    compare_twins(
        lab,
        "skip",
        {
            "with": [case(lab.scale, "type4a", data, seed) for seed in SEEDS[lab.scale]],
            "without": [case(lab.scale, "type4b", data, seed) for seed in SEEDS[lab.scale]],
        },
    )
