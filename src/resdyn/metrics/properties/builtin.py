"""The properties of the papers, and the rules by which they hold; the bounds are ours."""

from __future__ import annotations

from resdyn.metrics.properties.judged import Criterion, Property

TRAJECTORY = (
    Property(
        "RA1",
        "Residual Alignment 1: states equispaced on a line",
        "states equispaced on a line",
        (
            Criterion("collinearity", "at_least", 0.5),
            Criterion("equispacing", "at_most", 0.5, ideal=0.0, against_null=False),
        ),
        "steps",
        "The path of the states (RA1)",
        "A bias common to all blocks bends every path the same way, for all inputs: see in the figures whether "
        "samples of different classes move in different directions.",
    ),
    Property(
        "redundancy",
        "Redundant blocks",
        "a block that hardly changes its state",
        (Criterion("least_relative_step", "at_most", 0.05, ideal=0.0, factor=2.0),),
        "steps",
        "The path of the states (RA1)",
        "A small step is no proof: only removing the block shows what it costs (resdyn prune).",
    ),
)
COUPLING = (
    Property(
        "RA2",
        "Residual Alignment 2: blocks share their singular vectors",
        "blocks that share their top singular vectors",
        (
            Criterion("diagonal_energy_uv", "at_least", 0.5),
            Criterion("left_subspace_overlap", "at_least", 0.1, share=0.1),
            Criterion("right_subspace_overlap", "at_least", 0.1, share=0.1),
        ),
        "alignment",
        "Alignment of blocks (RA2)",
        "A Jacobian that acts on paired vectors like a multiple of the identity is diagonal without shared "
        "vectors; the overlaps of the subspaces are part of the rule for that reason. They say how much is shared: an "
        "overlap of a third is far beyond chance, and far from the same vectors.",
    ),
)
SINGULAR = (
    Property(
        "RA3",
        "Residual Alignment 3: Jacobians of rank C",
        "Jacobians with only as many large singular values as classes",
        (Criterion("singular_gap", "at_least", 2.0, factor=1.5),),
        "singular",
        "Rank (RA3)",
        "The gap may be at C - 1 instead of C, and a spectrum that falls smoothly has no gap at any rank: look at "
        "the singular values.",
    ),
    Property(
        "RA4",
        "Residual Alignment 4: top singular values fall like one over depth",
        "top singular values that fall like one over depth",
        (
            Criterion("inverse_scaling_slope", "at_least", 0.1, share=0.3),
            Criterion("inverse_scaling_r_squared", "at_least", 0.8),
        ),
        "singular",
        "Decay with depth (RA4)",
        "Whatever grows steadily with depth, such as the norm of the states, bends the top singular value with "
        "it: an untrained network can show a line.",
    ),
)
SPECTRUM = (
    Property(
        "stiffness",
        "Stiffness",
        "stiff blocks",
        (Criterion("stiffness_size", "at_least", 10.0, factor=2.0),),
        "stiffness",
        "Eigenvalues (stiffness)",
        "The smallest real part is often near zero, so that the index is heavy-tailed; the rule takes its median. "
        "It has no value where 0 is an eigenvalue and none is negative.",
    ),
    Property(
        "stability",
        "Stability",
        "blocks that are stable when applied again and again",
        (Criterion("spectral_radius", "at_most", 1.0, ideal=0.0, factor=1.1, where="mean over blocks"),),
        "stiffness",
        "Eigenvalues (stiffness)",
        "Eigenvalues describe a block that is applied again and again, which it is not; for a single step read "
        "its norm.",
    ),
)
CUSHION = (
    Property(
        "noise",
        "Noise stability",
        "noise in the states damped on its way to the output",
        (Criterion("output_cushion", "at_least", 1.5, factor=1.5),),
        "cushion",
        "Cushions",
        "Random noise alone is meant: an adversarial disturbance is far smaller.",
    ),
)
CLASSIFIER = "input of the classifier"
FEATURES = (
    Property(
        "NC1",
        "Neural Collapse 1: classes shrink to points",
        "features of a class nearly at one point",
        (Criterion("within_class_variability", "at_most", 0.1, ideal=0.0, factor=10.0, where=CLASSIFIER),),
        "collapse",
        "Neural collapse (NC1 to NC4)",
        "The variability by chance grows with the number of images per class, and collapse is weaker on test images.",
    ),
    Property(
        "NC2",
        "Neural Collapse 2: class means form a regular simplex",
        "class means nearly as far apart as can be, all alike",
        tuple(
            Criterion(name, "at_most", 0.2, ideal=0.0, factor=2.0, where=CLASSIFIER)
            for name in ("maximal_angle", "equiangularity", "equinorm")
        ),
        "collapse",
        "Neural collapse (NC1 to NC4)",
        "Means of random points in many dimensions are nearly equidistant, so that the rule asks for half of "
        "chance; with two classes NC2 is zero by construction.",
    ),
    Property(
        "NC3",
        "Neural Collapse 3: classifier and class means agree",
        "a classifier whose rows are nearly the class means",
        (Criterion("self_duality", "at_most", 0.5, ideal=0.0),),
        "collapse",
        "Neural collapse (NC1 to NC4)",
        "It says how well directions agree, and nothing about how well classes are separated.",
    ),
    Property(
        "NC4",
        "Neural Collapse 4: decisions by the nearest class mean",
        "decisions by the nearest class mean",
        (Criterion("nearest_mean_disagreement", "at_most", 0.05, ideal=0.0, factor=2.0, where=CLASSIFIER),),
        "collapse",
        "Neural collapse (NC1 to NC4)",
        "Two deciders that are both wrong may agree.",
    ),
)
TRANSPORT = (
    Property(
        "transport",
        "Transport: a change of a state arrives at the end as itself",
        "changes of a state that arrive at the end mostly as themselves",
        (Criterion("transport_identity_share", "at_least", 0.5),),
        "transport",
        "Transport",
        "Small branches leave the identity whatever they have learned, so that an untrained network often shows more "
        "of it; and the last depths are next to the end. The verdict asks for all depths of the table.",
    ),
)
