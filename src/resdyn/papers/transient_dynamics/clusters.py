"""Figure 6: transients of the residuals in the plane, and cosine similarity of last states, class by class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from resdyn.errors import MissingExtraError, require
from resdyn.papers import pictures
from resdyn.papers.lab import Lab, Scale
from resdyn.papers.transient_dynamics.networks import case, logistic, states_of

IMAGES: dict[Scale, int] = {"tiny": 40, "small": 1000, "paper": 2000}
NEIGHBOURS = 10
COMPONENTS = 50  # of the transients, before UMAP


def run(lab: Lab) -> None:
    """Share of an image's nearest transients that are of its class, in the plane; similarities within and between."""
    contrast = {}
    for kind in ("shared", "mlp"):
        network = lab.trained(case(lab.scale, kind))
        x, labels = states_of(lab, network, IMAGES[lab.scale])
        with torch.no_grad():
            steps = list(logistic(network).walk(x))
        similarity = class_similarity(steps[-1][0].cpu().numpy(), labels)
        contrast[kind] = similarity
        own = np.diag(similarity)
        lab.record(
            f"{kind}.rows", (similarity.argmax(1) == np.arange(len(own))).sum(), note="classes most like themselves"
        )
        lab.record(f"{kind}.own", own, "classes", "mean cosine similarity within a class")
        between = similarity[~np.eye(len(own), dtype=bool)]
        lab.record(f"{kind}.contrast", own.mean() - between.mean(), note="within less between classes")
        title = f"{kind}: mean cosine similarity of last states"
        lab.picture(f"{kind}.similarity", pictures.heat(title, "figure 6", similarity, "class", "class"))
        transients = torch.stack([y for _, y in steps], 1).flatten(1).float().cpu().numpy()
        method, plane = embed(transients)
        note = f"{NEIGHBOURS} nearest of {len(labels)} test images, transients over {len(steps)} layers"
        lab.record(
            f"{kind}.neighbours",
            100 * same_class(plane, labels),
            "test images",
            f"per cent; in the plane ({method}); {note}",
        )
        whole = PCA(min(COMPONENTS, len(labels) - 1), random_state=0).fit_transform(transients)
        parts = f"per cent; {COMPONENTS} components; {note}"
        lab.record(f"{kind}.neighbours_whole", 100 * same_class(whole, labels), "test images", parts)
        title = f"{kind}: transients of the residuals in the plane ({method})"
        lab.picture(f"{kind}.plane", pictures.scatter(title, "figure 6", plane, labels, f"{method} 1", f"{method} 2"))
    difference = np.diag(contrast["mlp"]) - np.diag(contrast["shared"])
    lab.record("own.difference", difference, "classes", "similarity within a class, MLP less ResNet")
    gap = {kind: np.diag(s).mean() - s[~np.eye(len(s), dtype=bool)].mean() for kind, s in contrast.items()}
    lab.record("contrast.difference", gap["mlp"] - gap["shared"], note="within less between, MLP less ResNet")


def embed(points: NDArray[np.float32]) -> tuple[str, NDArray[np.float64]]:
    """("UMAP" or "PCA ...", points (sample, 2)): UMAP of 50 components where umap-learn is there."""
    reduced = PCA(min(COMPONENTS, *points.shape), random_state=0).fit_transform(points)
    try:
        umap = require("umap", "umap")
    except MissingExtraError:
        return "PCA, for umap-learn is not installed", reduced[:, :2]
    return "UMAP", umap.UMAP(random_state=0, n_jobs=1).fit_transform(reduced)


def class_similarity(states: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(class, class): mean cosine similarity over pairs of different samples of the two classes."""
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, np.nan)
    classes = np.unique(labels)
    return np.array([[np.nanmean(cosines[np.ix_(labels == a, labels == b)]) for b in classes] for a in classes])


def same_class(points: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(sample,): share of a point's nearest others that have its label."""
    size = min(NEIGHBOURS, len(points) - 1)
    near = NearestNeighbors(n_neighbors=size + 1).fit(points).kneighbors(return_distance=False)[:, 1:]
    return (labels[near] == labels[:, None]).mean(1)
