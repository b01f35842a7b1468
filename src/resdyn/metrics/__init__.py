"""What stored arrays say: pure functions that need no model.

Each file measures one phenomenon, with cores on plain arrays and one function of a stored dataset:
`line_geometry` (RA1), `alignment` (RA2), `singular_rank` (RA3), `inverse_scaling` (RA4), `stiffness`, `cushions` and
`neural_collapse` (NC1-NC4). Besides: `pearson` and `spearman` with corrections for many tests, `jacobian_elements` and
`eigenvalue_count` from shapes, `stable_step` from eigenvalues. `summarize` and `metrics_table` list the numbers that a
store allows; a registered probe adds its own by a `Summary`. `judge` says whether a number satisfies a rule, given its
error and its null: "holds", "does not hold" or "undecided".
"""

from __future__ import annotations

import warnings
from typing import Any

from resdyn._statistics import standard_error
from resdyn.metrics.collapse import (
    centred_means,
    equiangularity,
    equinorm,
    maximal_angle,
    nearest_mean_disagreement,
    neural_collapse,
    self_duality,
    within_between_ratio,
    within_class_variability,
)
from resdyn.metrics.correlation import Correlation, benjamini_hochberg, holm, pearson, spearman
from resdyn.metrics.cushion import cushions, interlayer_cushion, layer_cushion
from resdyn.metrics.eigenvalues import determined, percent_negative, stiffness, stiffness_index
from resdyn.metrics.flows import dominance_ratio, dominant_fraction, expected_dominant_fraction, phi, phi_logistic
from resdyn.metrics.growth import GrowthFit, transport_growth
from resdyn.metrics.jacobian_size import eigenvalue_count, jacobian_elements
from resdyn.metrics.laws import LawComparison, compare_laws
from resdyn.metrics.line import collinearity, equispacing, line_geometry, line_shape_score, step_length, tortuosity
from resdyn.metrics.properties import Criterion, Property, PropertyVerdict, conclusion, verdicts
from resdyn.metrics.rank import (
    converged_singular_values,
    count_unconverged,
    gap_rank,
    numerical_rank,
    singular_gap,
    singular_rank,
)
from resdyn.metrics.residual_alignment import (
    aligned_vectors,
    alignment,
    between_blocks,
    coupled_rank,
    diagonal_energy,
    expected_diagonal_energy,
    mismatch,
    overlap_angles,
    subspace_overlap,
    vector_alignment,
)
from resdyn.metrics.scaling import (
    InverseScalingFit,
    LineFit,
    fit_line,
    inverse_scaling,
    inverse_scaling_fit,
    inverse_top_value,
)
from resdyn.metrics.stability import growing_share, stable_step
from resdyn.metrics.summary import (
    Chance,
    Metric,
    Summary,
    descriptions,
    metrics_table,
    one_number,
    over_samples,
    summarize,
)
from resdyn.metrics.transport_store import transport_structures
from resdyn.metrics.transports import TransportStructure, transport_angles, transport_structure
from resdyn.metrics.verdict import Estimate, Judgement, Rule, Verdict, judge

__all__ = [
    "Chance",
    "Correlation",
    "Criterion",
    "Estimate",
    "GrowthFit",
    "InverseScalingFit",
    "Judgement",
    "LawComparison",
    "LineFit",
    "Metric",
    "Property",
    "PropertyVerdict",
    "Rule",
    "Summary",
    "TransportStructure",
    "Verdict",
    "aligned_vectors",
    "alignment",
    "benjamini_hochberg",
    "between_blocks",
    "centred_means",
    "collinearity",
    "compare_laws",
    "conclusion",
    "converged_singular_values",
    "count_unconverged",
    "coupled_rank",
    "cushions",
    "descriptions",
    "determined",
    "diagonal_energy",
    "dominance_ratio",
    "dominant_fraction",
    "eigenvalue_count",
    "equiangularity",
    "equinorm",
    "equispacing",
    "expected_diagonal_energy",
    "expected_dominant_fraction",
    "fit_line",
    "gap_rank",
    "growing_share",
    "holm",
    "interlayer_cushion",
    "inverse_scaling",
    "inverse_scaling_fit",
    "inverse_top_value",
    "jacobian_elements",
    "judge",
    "layer_cushion",
    "line_geometry",
    "line_shape_score",
    "maximal_angle",
    "metrics_table",
    "mismatch",
    "nearest_mean_disagreement",
    "neural_collapse",
    "numerical_rank",
    "one_number",
    "over_samples",
    "overlap_angles",
    "pearson",
    "percent_negative",
    "phi",
    "phi_logistic",
    "self_duality",
    "singular_gap",
    "singular_rank",
    "spearman",
    "stable_step",
    "standard_error",
    "step_length",
    "stiffness",
    "stiffness_index",
    "subspace_overlap",
    "summarize",
    "tortuosity",
    "transport_angles",
    "transport_growth",
    "transport_structure",
    "transport_structures",
    "vector_alignment",
    "verdicts",
    "within_between_ratio",
    "within_class_variability",
]


def __getattr__(name: str) -> Any:
    if name == "principal_angles":
        warnings.warn(
            "resdyn.metrics.principal_angles is now overlap_angles, for angles from a stored overlap; "
            "resdyn.linalg.principal_angles takes the bases themselves",
            DeprecationWarning,
            stacklevel=2,
        )
        return overlap_angles
    raise AttributeError(f"module 'resdyn.metrics' has no attribute {name!r}")
