"""Section 2.3: a large weight decay strengthens alignment and does not cost generalization."""

from __future__ import annotations

import dataclasses

import numpy as np

from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.lab import Lab
from resdyn.papers.residual_alignment.late import diagonal_energy
from resdyn.papers.residual_alignment.networks import SEEDS, case, measured, small_data

DECAYS = (5e-4, 5e-2)  # the last is that of every other experiment


def run(lab: Lab) -> None:
    """Type 4a at two decays: diagonal energy and test accuracy over seeds, and the stronger less the weaker."""
    energies, accuracies = [], []
    for decay in DECAYS:
        found = [_of_case(lab, decayed(lab, decay, seed)) for seed in SEEDS[lab.scale]]
        energy, accuracy = np.array(found).T
        lab.record(f"wd{decay:g}.energy", energy, "seeds", "diagonal energy, all pairs i != j")
        lab.record(f"wd{decay:g}.accuracy", accuracy, "seeds", "test images, per cent")
        energies.append(energy)
        accuracies.append(accuracy)
    note = f"weight decay {DECAYS[-1]:g} less {DECAYS[0]:g}"
    lab.record("energy.difference", energies[-1] - energies[0], "seeds", f"diagonal energy, {note}")
    lab.record("accuracy.difference", accuracies[-1] - accuracies[0], "seeds", f"test accuracy in per cent, {note}")
    mean, spread = np.mean(energies, 1), np.std(energies, 1, ddof=1)
    row = pictures.series("diagonal energy", np.log10(DECAYS), mean, spread)
    title = "Alignment against weight decay, type 4a"
    lab.picture("energy", pictures.lines(title, "section 2.3", [row], "log10 of the weight decay", "diagonal energy"))


def decayed(lab: Lab, decay: float, seed: int) -> Case:
    """Type 4a with a weight decay of its own."""
    made = case(lab.scale, "type4a", small_data(lab.scale), seed)
    return dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, weight_decay=decay))


def _of_case(lab: Lab, chosen: Case) -> tuple[float, float]:
    ds = measured(lab, lab.trained(chosen))
    return float(np.nanmean(diagonal_energy(ds))), 100 * lab.result.networks[chosen.name]["test_accuracy"]
