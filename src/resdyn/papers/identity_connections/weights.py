"""Table 3 and figure 7: weights before and after training; table 4: their decay beside the risk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdyn.nets import SimplifiedNet, identity_kernel
from resdyn.papers import pictures
from resdyn.papers.identity_connections.networks import DEPTHS, KINDS, WEIGHT_DECAY, depth, simplified, watched
from resdyn.papers.identity_connections.watch import risk
from resdyn.papers.lab import Lab, Scale

FloatArray = NDArray[np.float64]
LARGE, LARGEST = 0.25, 0.7
MIDDLE: dict[Scale, int] = {"tiny": 8, "small": 32, "paper": 32}
NOTES = {
    "large": "weights of magnitude above 0.7",
    "id_mode": "mode of the ID entries",
    "share": "mass of the ID entries over that of weights of at least 0.25",
}
PRINTED = 128  # the paper's decay terms are (lambda / 2) |w|^2 over its batch size


def statistics(lab: Lab) -> None:
    """Table 3 at the middle depth: p before and after training, t = T(r) before and after."""
    before = MIDDLE[lab.scale]
    after = before if before in DEPTHS[lab.scale] else depth(lab.scale)
    for kind, letter in (("plain", "p"), ("residual", "t")):
        networks = {
            ("before", before): lab.untrained(simplified(lab.scale, kind, before)).model,
            ("after", after): watched(lab, simplified(lab.scale, kind, after))[0].model,
        }
        for (when, layers), model in networks.items():
            weights, units = transferred_weights(model, shifted=kind == "residual")
            row = table_row(weights, units) | {"large": float((np.abs(weights) > LARGEST).sum())}
            if when == "after":
                counts, edges = np.histogram(units, 200)
                row |= {"id_mode": float(edges[counts.argmax()]), "share": row["id_mass"] / row["large_mass"]}
            for name, value in row.items():
                lab.record(f"{letter}.{when}.{name}", value, note=f"depth {layers}; {NOTES.get(name, '')}".strip("; "))
            _draw(lab, f"{letter}.{when}", weights, units)


def decay(lab: Lab) -> None:
    """Table 4: loss and (lambda / 2) |w|^2 before and after training; also over 128, a factor that the paper's lack."""
    for layers in DEPTHS["tiny" if lab.scale == "tiny" else "paper"]:
        for kind in KINDS:
            case = simplified(lab.scale, kind, layers)
            before = lab.untrained(case)
            networks = {"before": before}
            if layers in DEPTHS[lab.scale]:
                networks["after"] = watched(lab, case)[0]
            for when, network in networks.items():
                key = f"{kind}.{layers}.{when}"
                term = WEIGHT_DECAY / 2 * squared_norm(network.model.parameters())
                loss = risk(network.model, network.data, 5000 if when == "before" else None)
                lab.record(f"{key}.loss", loss)
                lab.record(f"{key}.decay", term, note="(lambda / 2) |w|^2, biases included")
                lab.record(f"{key}.printed", term / PRINTED, note="(lambda / 2) |w|^2 / 128")
                lab.record(f"{key}.ratio", loss / term, note="loss over (lambda / 2) |w|^2")
        if layers == DEPTHS[lab.scale][0]:
            terms = [float(lab.result.numbers[f"{kind}.{layers}.before.decay"].value or np.nan) for kind in KINDS]
            lab.record("before.ratio", terms[0] / terms[1], note="decay term of plain over residual, before training")
        wide = squared_norm(_fan_out(before.model).parameters()) * WEIGHT_DECAY / 2 / PRINTED
        lab.record(
            f"residual.{layers}.before.fan_out",
            wide,
            note="(lambda / 2) |w|^2 / 128 of weights drawn with "
            "standard deviation 1 / (D U V), D the outputs, instead of equation 4's 1 / (C U V)",
        )


def squared_norm(parameters: Iterable[Tensor]) -> float:
    """|w|^2 over all parameters."""
    return sum(float(p.detach().double().square().sum()) for p in parameters)


def transferred_weights(model: nn.Module, shifted: bool) -> tuple[FloatArray, FloatArray]:
    """All weights of the convolutions and the classifier, biases excluded, after T if `shifted`; and the ID entries."""
    weights, units = [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        value: Tensor = parameter.detach().double().cpu()
        if name.startswith("blocks."):
            rho = identity_kernel(value)
            value = value + rho if shifted else value
            units.append(value[rho > 0])
        weights.append(value.flatten())
    return torch.cat(weights).numpy(), torch.cat(units).numpy()


def table_row(weights: FloatArray, units: FloatArray) -> dict[str, float]:
    """Mean, standard deviation, and L1 norms: of all weights, of those of at least 0.25, of the ID entries."""
    size = np.abs(weights)
    return {
        "mean": float(weights.mean()),
        "std": float(weights.std()),
        "mass": float(size.sum()),
        "large_mass": float(size[size >= LARGE].sum()),
        "id_mass": float(np.abs(units).sum()),
    }


def _fan_out(model: Any) -> SimplifiedNet:
    """The network with its convolutions rescaled from standard deviation 1 / (C U V) to 1 / (D U V)."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= module.in_channels / module.out_channels
    return model


def _draw(lab: Lab, key: str, weights: FloatArray, units: FloatArray) -> None:
    rows = []
    for name, values in (("all weights", weights), ("ID entries", units)):
        counts, edges = np.histogram(values, np.linspace(-1, 2, 121))
        rows.append(
            pictures.series(name, (edges[1:] + edges[:-1]) / 2, np.where(counts > 0, counts, np.nan), style="-")
        )
    letter, when = key.split(".")
    title = f"weights of {'p' if letter == 'p' else 't = T(r)'} {when} training"
    lab.picture(key, pictures.lines(title, "figure 7", rows, "weight", "count", log=True))
