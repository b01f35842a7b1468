"""Metrics: pure functions of stored arrays.

Each file measures one phenomenon, with cores on plain arrays and one function of a stored dataset:
`line_geometry` (RA1), `alignment` (RA2), `singular_rank` (RA3), `inverse_scaling` (RA4), `stiffness` and
`neural_collapse` (NC1-NC4). Beside them: `pearson` and `spearman` with corrections for many
tests, `jacobian_elements` and `eigenvalue_count` from shapes, `stable_step` from eigenvalues. `summarize` and
`metrics_table` put the numbers that a store allows side by side.
"""

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
from resdyn.metrics.flows import dominance_ratio, dominant_fraction, expected_dominant_fraction, phi, phi_logistic
from resdyn.metrics.jacobian_size import eigenvalue_count, jacobian_elements
from resdyn.metrics.line import collinearity, equispacing, line_geometry, line_shape_score, step_length, tortuosity
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
    principal_angles,
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
from resdyn.metrics.stiffness_index import determined, percent_negative, stiffness, stiffness_index
from resdyn.metrics.summary import Metric, metrics_table, summarize

__all__ = [
    "Correlation",
    "InverseScalingFit",
    "LineFit",
    "Metric",
    "aligned_vectors",
    "alignment",
    "benjamini_hochberg",
    "between_blocks",
    "centred_means",
    "collinearity",
    "converged_singular_values",
    "count_unconverged",
    "coupled_rank",
    "cushions",
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
    "layer_cushion",
    "line_geometry",
    "line_shape_score",
    "maximal_angle",
    "metrics_table",
    "mismatch",
    "nearest_mean_disagreement",
    "neural_collapse",
    "numerical_rank",
    "pearson",
    "percent_negative",
    "phi",
    "phi_logistic",
    "principal_angles",
    "self_duality",
    "singular_gap",
    "singular_rank",
    "spearman",
    "stable_step",
    "step_length",
    "stiffness",
    "stiffness_index",
    "subspace_overlap",
    "summarize",
    "tortuosity",
    "vector_alignment",
    "within_between_ratio",
    "within_class_variability",
]
