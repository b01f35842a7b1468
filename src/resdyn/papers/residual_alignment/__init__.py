"""Li and Papyan (2023), "Residual Alignment: Uncovering the Mechanisms of Residual Networks"."""

from pathlib import Path

from resdyn.papers.paper import Paper
from resdyn.papers.residual_alignment import (
    accuracy,
    boundary,
    classes,
    collapse,
    initialisation,
    layerwise,
    precision,
    ra1,
    ra2,
    ra3,
    ra4,
    skip,
    stochastic_depth,
    theorems,
    variants,
    weight_decay,
)

SCRIPTS = {
    "ra1": variants.of_main_cases(ra1.measure),
    "ra2": variants.of_main_cases(ra2.measure),
    "ra3": variants.of_main_cases(ra3.measure),
    "ra4": variants.of_main_cases(ra4.measure),
    "initialisation": variants.of_main_cases(initialisation.measure),
    "type3": variants.run_type3,
    "preactivation": variants.run_preactivation,
    "boundary": boundary.run,
    "classes": classes.run,
    "stochastic_depth": stochastic_depth.run,
    "stochastic_depth_type3": stochastic_depth.run_type3,
    "skip": skip.run,
    "skip_cifar10": skip.run_cifar10,
    "skip_convolutional": skip.run_convolutional,
    "weight_decay": weight_decay.run,
    "collapse": collapse.run,
    "layerwise": layerwise.run,
    "precision": precision.comparison("type4a"),
    "precision_type1": precision.comparison("type1"),
    "precision_convolutional": precision.comparison("type5a"),
    "theory": theorems.run,
    "accuracy": variants.of_main_cases(accuracy.measure),
}
PAPER = Paper.of(Path(__file__).parent, SCRIPTS)
