"""Probes as a user writes them, in a module that workers can import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import resdyn
from resdyn.metrics import Summary, over_samples
from resdyn.report import Section, profile_figure, profile_overlay


@dataclass(frozen=True)
class Gain:
    """How much the norm of the state grows in each block."""

    power: int = 1
    name: ClassVar[str] = "gain"

    def layout(self, stream, num_classes):
        return {"gain": (("block",), (len(stream),), "float64")}

    def measure(self, sample, num_classes):
        norms = [float(h.norm()) for h in sample.states]
        return {"gain": np.divide(norms[1:], norms[:-1]) ** self.power}


def rows(ds):
    yield over_samples("mean_gain", ds["gain"].mean("block"), "mean over blocks")


GAIN = resdyn.Phenomenon(
    "gain",
    probe=Gain,
    variables=("gain",),
    metrics=Summary(rows, {"mean_gain": ("growth of the state's norm", "above 1 where it grows", "")}),
    sections=[
        Section(
            "gain",
            "Gain",
            "How fast does the state grow?",
            [profile_figure("gain", "Growth <per> block", "1: the norm is kept.", "ratio", [("mean_gain", "Mean")])],
            tiles=[("mean_gain", "growth of the norm")],
        )
    ],
    overlays=[profile_overlay("gain", "Growth per block", "1: the norm is kept.", "ratio")],
)
