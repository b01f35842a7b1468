"""One function per figure: `name(ds) -> plotly Figure | None`, `name_paper(ds) -> matplotlib Figure | None`.

None means that the dataset lacks the probe, or holds too little of it, to draw the figure.
"""

from resdyn.report.figures.collapse import (
    collapse_decision,
    collapse_decision_paper,
    collapse_simplex,
    collapse_simplex_paper,
    collapse_variability,
    collapse_variability_paper,
)
from resdyn.report.figures.coupling import (
    coupling_grid,
    coupling_grid_exchanged,
    coupling_grid_exchanged_paper,
    coupling_grid_paper,
)
from resdyn.report.figures.cushion import (
    block_cushion,
    block_cushion_paper,
    cushion_histogram,
    cushion_histogram_paper,
    layer_cushion,
    layer_cushion_paper,
    output_cushion,
    output_cushion_paper,
)
from resdyn.report.figures.energy import diagonal_energy, diagonal_energy_paper
from resdyn.report.figures.lyapunov import lyapunov_exponents, lyapunov_exponents_paper
from resdyn.report.figures.scaling import inverse_scaling, inverse_scaling_paper
from resdyn.report.figures.singular import singular_values, singular_values_paper
from resdyn.report.figures.steps import collinearity, collinearity_paper, step_lengths, step_lengths_paper
from resdyn.report.figures.stiffness import (
    eigenvalue_plane,
    eigenvalue_plane_paper,
    negative_share,
    negative_share_paper,
    nonnormality,
    nonnormality_paper,
    stiffness_index,
    stiffness_index_paper,
)
from resdyn.report.figures.training import (
    training_alignment,
    training_alignment_paper,
    training_collapse,
    training_collapse_paper,
)
from resdyn.report.figures.trajectories import (
    principal_trajectories,
    principal_trajectories_paper,
    random_trajectories,
    random_trajectories_paper,
)
from resdyn.report.figures.transport import (
    transport_overlap,
    transport_overlap_paper,
    transport_parts,
    transport_parts_paper,
    transport_ranks,
    transport_ranks_paper,
    transport_size,
    transport_size_paper,
    transport_spectrum,
    transport_spectrum_paper,
)

__all__ = [
    "block_cushion",
    "block_cushion_paper",
    "collapse_decision",
    "collapse_decision_paper",
    "collapse_simplex",
    "collapse_simplex_paper",
    "collapse_variability",
    "collapse_variability_paper",
    "collinearity",
    "collinearity_paper",
    "coupling_grid",
    "coupling_grid_exchanged",
    "coupling_grid_exchanged_paper",
    "coupling_grid_paper",
    "cushion_histogram",
    "cushion_histogram_paper",
    "diagonal_energy",
    "diagonal_energy_paper",
    "eigenvalue_plane",
    "eigenvalue_plane_paper",
    "inverse_scaling",
    "inverse_scaling_paper",
    "layer_cushion",
    "layer_cushion_paper",
    "lyapunov_exponents",
    "lyapunov_exponents_paper",
    "negative_share",
    "negative_share_paper",
    "nonnormality",
    "nonnormality_paper",
    "output_cushion",
    "output_cushion_paper",
    "principal_trajectories",
    "principal_trajectories_paper",
    "random_trajectories",
    "random_trajectories_paper",
    "singular_values",
    "singular_values_paper",
    "step_lengths",
    "step_lengths_paper",
    "stiffness_index",
    "stiffness_index_paper",
    "training_alignment",
    "training_alignment_paper",
    "training_collapse",
    "training_collapse_paper",
    "transport_overlap",
    "transport_overlap_paper",
    "transport_parts",
    "transport_parts_paper",
    "transport_ranks",
    "transport_ranks_paper",
    "transport_size",
    "transport_size_paper",
    "transport_spectrum",
    "transport_spectrum_paper",
]
