"""The pictures of each section: how to read each, and the number that it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import matplotlib.figure as mf
import plotly.graph_objects as go
import xarray as xr
from markupsafe import Markup

from resdyn._format import short, with_error
from resdyn.metrics.residual_alignment import alignment as pair_alignment
from resdyn.metrics.residual_alignment import between_blocks, coupled_rank, expected_diagonal_energy
from resdyn.report import figures, sentences
from resdyn.report.view import Array, coupled_groups, mean_and_error

UJV = Markup("U<sub>j</sub><sup>⊤</sup> J<sub>i</sub> V<sub>j</sub>")

WIDE_CELLS = 150  # cells a side from which a picture takes the whole width of the page


@dataclass(frozen=True)
class Plan:
    """A picture before it is drawn."""

    name: str
    title: str
    how: str
    draw: Callable[[xr.Dataset], go.Figure | None]
    paper: Callable[[xr.Dataset], mf.Figure | None]
    numbers: Callable[[xr.Dataset, sentences.Rows], list[str]]
    wide: bool = False


def _plan(name: str, title: str, how: str, wording: tuple[tuple[str, str], ...]) -> Plan:
    def numbers(_: xr.Dataset, metrics: sentences.Rows) -> list[str]:
        return sentences.sentences(metrics, wording)

    return Plan(name, title, how, getattr(figures, name), getattr(figures, f"{name}_paper"), numbers)


def trajectories() -> list[Plan]:
    """Paths of the states."""
    how = (
        "Each line follows one sample from the first to the last state of the stage, the end drawn larger; "
        "rays with evenly spaced dots mean that the blocks push the sample along one direction (RA1)."
    )
    return [
        _plan("principal_trajectories", "On two principal axes", how, sentences.LINE),
        _plan(
            "random_trajectories",
            "On two random axes",
            "The same paths on two random directions: a line stays a line and equal spacing stays equal in "
            "any projection, so nothing here is an effect of the axes chosen.",
            sentences.LINE,
        ),
    ]


def steps() -> list[Plan]:
    """Direction and length of the steps."""
    return [
        _plan(
            "collinearity",
            "Cosine of successive steps",
            "At depth i, the cosine between the step into and the step out of state i: 1 straight on, "
            "0 a right angle; no value where a stage begins or ends.",
            sentences.COSINES,
        ),
        _plan(
            "step_lengths",
            "Length of the steps",
            "Length of the step from depth i to i+1, relative to the mean step of the same sample and stage: "
            "a flat line at 1 means equispaced states.",
            sentences.SPACING,
        ),
    ]


def alignment(ds: xr.Dataset) -> list[Plan]:
    """Coupling of blocks, a grid for each stage."""
    how = Markup(
        "Square (i, j) shows |{}| in per cent of the largest singular value of J<sub>i</sub>, small entries "
        "brightened. A bright diagonal in the squares i ≠ j means that the singular vectors of block j "
        "also diagonalise block i (RA2)."
    ).format(UJV)
    grids = []
    groups = coupled_groups(ds)
    for g, blocks in enumerate(groups):
        numbers = ds["block"].values[blocks]
        which = f", blocks {numbers[0]} to {numbers[-1]}" if len(groups) > 1 else ""
        name = "coupling_grid" if g == 0 else f"coupling_grid_{g + 1}"
        grids.append(
            Plan(
                name,
                UJV + which,
                how,
                partial(figures.coupling_grid, group=g),
                partial(figures.coupling_grid_paper, group=g),
                partial(_group_energy, blocks=blocks),
                wide=len(blocks) * coupled_rank(ds) > WIDE_CELLS,
            )
        )
    energy = _plan(
        "diagonal_energy",
        "Energy on the diagonal, pair by pair",
        Markup(
            "Share of the squared entries of {} that lies on its diagonal, mean over samples: 1 when block j "
            "diagonalises block i, one over the number of vectors by chance; blank where shapes differ. A diagonal "
            "alone does not prove shared vectors: it also appears where J<sub>i</sub> acts on paired vectors like a "
            "multiple of the identity. The cosines of the vectors across blocks tell the two apart."
        ).format(UJV),
        sentences.ALIGNMENT,
    )
    return [*grids, energy]


def _group_energy(ds: xr.Dataset, _: sentences.Rows, blocks: Array) -> list[str]:
    """The energy of one group of blocks; the metrics table holds the mean over all groups."""
    pairs = pair_alignment(ds)["diagonal_energy_uv"].isel(block=blocks, block_j=blocks)
    mean, error, n = mean_and_error(between_blocks(pairs).values)
    if not n:
        return ["Energy on the diagonal: not measured, since no pair i ≠ j converged."]
    chance = short(expected_diagonal_energy(coupled_rank(ds)))
    energy = with_error(float(mean), float(error))
    return [f"Mean energy on the diagonal over these pairs i ≠ j: {energy} (n = {n}); by chance: {chance}."]


def singular() -> list[Plan]:
    """Singular values and their fall over depth."""
    return [
        _plan(
            "singular_values",
            "Top singular values",
            "A gap between the first C values (C classes) and the others means that the residual Jacobian "
            "has rank C at most (RA3); open circles did not converge.",
            sentences.RANK,
        ),
        _plan(
            "inverse_scaling",
            Markup("1 / s<sub>1</sub> against depth"),
            "A straight line means that the largest singular value falls like one over the block number "
            "(RA4); the dotted line marks where alignment begins, the fit uses the blocks from there on. "
            "An untrained network can show a line, too: measure one of the same shape beside it.",
            sentences.SCALING,
        ),
    ]


def stiffness() -> list[Plan]:
    """Eigenvalues by both readings, and nonnormality."""
    return [
        _plan(
            "stiffness_index",
            "Size of the stiffness index",
            "Size of max Re λ / min Re λ for every block, on a logarithmic scale: of the Jacobian as the matrix that "
            "it is, and of its spatial slices, which the stiffness paper's tables are made of. Only the first says "
            "something about the block as a dynamical system. Dots are medians over samples, bars reach from the "
            "first to the third quartile.",
            sentences.STIFFNESS,
        ),
        _plan(
            "negative_share",
            "Eigenvalues with negative real part",
            "Share of the eigenvalues along which the block reverses its input (of the whole block, the skip included, "
            "unless the capture says otherwise), by both readings.",
            sentences.NEGATIVE,
        ),
        _plan(
            "eigenvalue_plane",
            "The eigenvalues of single blocks",
            "Every dot is an eigenvalue λ of one block at one sample. An identity would put all at 1; right of 1 a "
            "direction grows, inside the grey circle it shrinks, left of the axis it is reversed; the zeros are "
            "outputs that the gate switched off.",
            sentences.PLANE,
        ),
        _plan(
            "nonnormality",
            "What eigenvalues do not tell",
            "For a normal matrix the norm equals the largest modulus of an eigenvalue, and the numerical abscissa the "
            "largest real part. The distance between the lines is what a direction can grow although no eigenvalue "
            "says so.",
            sentences.NONNORMAL,
        ),
    ]


def training() -> list[Plan]:
    """What a monitor saw."""
    how = "Measured before training, now and then, and at the end, at a few fixed training samples; "
    return [
        Plan(
            "training_alignment",
            "Residual alignment",
            how + "curves that rise towards 1 show alignment emerging from a network that had none.",
            figures.training_alignment,
            figures.training_alignment_paper,
            partial(sentences.first_to_last, columns=sentences.TRAINED_ALIGNMENT),
        ),
        Plan(
            "training_collapse",
            "Neural collapse and loss",
            how + "NC1 falls as classes shrink to points; the loss need not, since weight decay holds the logits back.",
            figures.training_collapse,
            figures.training_collapse_paper,
            partial(sentences.first_to_last, columns=sentences.TRAINED_COLLAPSE),
        ),
    ]


def cushion() -> list[Plan]:
    """Noise stability of layers and blocks."""
    layer = Markup(
        "|A x| / (|A|<sub>F</sub> |x|) of each convolution or linear layer A at its input x: the larger, the less the "
        "layer's output moves, relative to its size, when noise is added to its weights."
    )
    block = Markup(
        "√n |J h| / (|J|<sub>F</sub> |h|) with J the derivative at the state h of n entries: 1 where h is passed on "
        "like a random direction; below it noise in the state grows relative to the state, above it is damped."
    )
    return [
        _plan("layer_cushion", "Layer cushion", layer, sentences.LAYER_CUSHION),
        _plan("cushion_histogram", "Layer cushion, sample by sample", layer, sentences.LAYER_CUSHION),
        _plan("block_cushion", "Interlayer cushion of each block", block, sentences.BLOCK_CUSHION),
        _plan("output_cushion", "Interlayer cushion from each state to the output", block, sentences.OUTPUT_CUSHION),
    ]


def collapse() -> list[Plan]:
    """Neural collapse over depth."""
    return [
        _plan(
            "collapse_variability",
            "NC1: variability within classes",
            "Scatter within the classes against scatter between their means, on a logarithmic scale: "
            "it falls as every class shrinks towards a point.",
            sentences.NC1,
        ),
        _plan(
            "collapse_simplex",
            "NC2: simplex of class means",
            "Three distances from a regular simplex: unequal norms, unequal angles, and angles that are not "
            "as wide as they could be; all zero at collapse.",
            sentences.NC2,
        ),
        _plan(
            "collapse_decision",
            "NC3 and NC4: the decision",
            "NC4 is the share of images whose nearest class mean differs from the network's answer; NC3 the "
            "distance between classifier and class means (√2 when unrelated); both zero at collapse.",
            sentences.NC34,
        ),
    ]
