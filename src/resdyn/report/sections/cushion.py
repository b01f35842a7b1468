"""Noise stability in the report: cushions of layers and blocks."""

from __future__ import annotations

from markupsafe import Markup

from resdyn.report.comparison.overlay import Overlay, of_profile
from resdyn.report.figures.cushion import block_profile
from resdyn.report.sections.section import Section, built_in

LAYER_CUSHION = (("layer_cushion", "Mean over layers"), ("least_layer_cushion", "least over layers and samples"))
BLOCK_CUSHION = (("block_cushion", "Mean over blocks"),)
OUTPUT_CUSHION = (("output_cushion", "Mean over blocks"),)
LAYER = Markup(
    "|A x| / (|A|<sub>F</sub> |x|) of each convolution or linear layer A at its input x: the larger, the less the "
    "layer's output moves, relative to its size, when noise is added to its weights."
)
BLOCK = Markup(
    "√n |J h| / (|J|<sub>F</sub> |h|) with J the derivative at the state h of n entries: 1 where h is passed on "
    "like a random direction; below it noise in the state grows relative to the state, above it is damped."
)

SECTIONS = (
    Section(
        "cushion",
        "Noise stability",
        "How much noise do the layers pass on?",
        (
            built_in("layer_cushion", "Layer cushion", LAYER, LAYER_CUSHION),
            built_in("cushion_histogram", "Layer cushion, sample by sample", LAYER, LAYER_CUSHION),
            built_in("block_cushion", "Interlayer cushion of each block", BLOCK, BLOCK_CUSHION),
            built_in("output_cushion", "Interlayer cushion from each state to the output", BLOCK, OUTPUT_CUSHION),
        ),
    ),
)

OVERLAYS = (
    Overlay(
        "block_cushion",
        "Interlayer cushion of the block",
        "The larger, the less noise in its input moves its output.",
        "block",
        "cushion",
        of_profile(lambda ds: block_profile(ds, "block_cushion")),
    ),
    Overlay(
        "output_cushion",
        "Interlayer cushion to the output",
        "The larger, the less noise in the state moves the prediction.",
        "block",
        "cushion",
        of_profile(lambda ds: block_profile(ds, "output_cushion")),
    ),
)
