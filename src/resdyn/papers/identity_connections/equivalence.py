"""Section 4.1, table 2 and figure 6: twins that start equal and decay to equal points stay equal, but for rounding.

The null is the plain twin with the usual decay, to zero and not to the identity: it starts equal and must part.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from resdyn.interventions.transfer import to_plain_state, to_residual_state
from resdyn.nets import identity_kernel
from resdyn.papers import pictures
from resdyn.papers.case import Case
from resdyn.papers.identity_connections.networks import DEPTHS, WEIGHT_DECAY, simplified
from resdyn.papers.identity_connections.watch import risk
from resdyn.papers.identity_connections.weights import squared_norm
from resdyn.papers.lab import Lab, Scale, Trained
from resdyn.training import EpochEnd, Recipe

OF_DEPTH: dict[Scale, int] = {"tiny": 1, "small": 1, "paper": 3}
SIZE: dict[Scale, tuple[int, int | None]] = {"tiny": (4, 128), "small": (10, 640), "paper": (200, None)}


class Losses:
    """The loss of every epoch, and nothing else."""

    def init(
        self, model: nn.Module, data: object, *, state: dict[str, list[float]] | None = None
    ) -> dict[str, list[float]]:
        return {"loss": []} if state is None else state

    def update(self, state: dict[str, list[float]], end: EpochEnd) -> dict[str, list[float]]:
        return {"loss": [*state["loss"], end.loss]}

    def result(self, state: dict[str, list[float]]) -> list[float]:
        return state["loss"]


def run(lab: Lab) -> None:
    """Both twins in float64 from the same draw: losses at every epoch, and what they end as."""
    for layers in DEPTHS[lab.scale][: OF_DEPTH[lab.scale]]:
        rows = {}
        for kind in ("residual", "transferred"):
            network, losses = _trained(lab, kind, layers)
            rows[kind] = network, np.array(losses)
            _table(lab, f"{kind}.{layers}", network, kind == "transferred")
        (residual, a), (plain, b) = rows["residual"], rows["transferred"]
        gap = np.abs(a - b)
        lab.record(f"gap.{layers}.first", gap[0], note="difference of the losses of the first epoch")
        lab.record(f"gap.{layers}.last", gap[-1], note="difference of the losses of the last epoch")
        lab.record(
            f"parameters.{layers}", parameter_gap(plain.model, residual.model), note="max |T^-1(p) - r| at the end"
        )
        lab.record(f"outputs.{layers}", _output_gap(plain, residual), note="largest difference of logits, 100 images")
        x = np.arange(1, len(gap) + 1)
        both = [pictures.series(name, x, rows[name][1], style="-") for name in rows]
        title = f"depth {layers}: loss of twins in float64"
        lab.picture(f"loss.{layers}", pictures.lines(title, "figure 6, left", both, "epoch", "loss", True))
        if not gap.any():  # equal to the last bit: nothing that a logarithm could show
            continue
        one = [pictures.series("plain - residual", x, np.where(gap > 0, gap, np.nan), style="-")]
        title = f"depth {layers}: absolute difference of the losses"
        lab.picture(f"gap.{layers}", pictures.lines(title, "figure 6, right", one, "epoch", "difference", True))


def decay_to_identity(net: nn.Module, weight_decay: float) -> None:
    """Make the decay of a plain network that of |T^-1(p)|^2: -lambda rho, beside the optimizer's lambda p."""
    for name in shifted(net):
        parameter = net.get_parameter(name)
        parameter.register_hook(_Pull(weight_decay * identity_kernel(parameter.detach())))


@dataclasses.dataclass(frozen=True)
class _Pull:
    shift: Tensor

    def __call__(self, grad: Tensor) -> Tensor:
        return grad - self.shift


def shifted(net: nn.Module) -> list[str]:
    """Names of the weights that T shifts: of the convolutions of all blocks."""
    return [name for name, p in net.named_parameters() if name.startswith("blocks.") and p.dim() == 4]


def parameter_gap(plain: nn.Module, residual: nn.Module) -> float:
    """max |T^-1(p) - r| over all parameters of two twins."""
    back, own = to_residual_state(plain.state_dict(), shifted(plain)), residual.state_dict()
    return max(float((back[name] - own[name]).abs().max()) for name in own)


def _case(scale: Scale, kind: str, layers: int) -> Case:
    case = simplified(scale, kind, layers)
    epochs, images = SIZE[scale]
    recipe: Recipe = dataclasses.replace(case.recipe, epochs=epochs, lr=1e-2)
    return dataclasses.replace(case, recipe=recipe, images=images, precision="float64")


def _trained(lab: Lab, kind: str, layers: int) -> tuple[Trained, list[float]]:
    def twin(plain: nn.Module) -> None:
        """Give the plain network T(r) of the untrained residual one, in float64, and its decay."""
        residual = lab.untrained(_case(lab.scale, "residual", layers)).model
        plain.load_state_dict(to_plain_state(residual.state_dict(), shifted(plain)))
        if not lab.null:
            decay_to_identity(plain, WEIGHT_DECAY)

    trains = dataclasses.replace(lab, null=False) if lab.null else lab  # the null is trained too
    network = trains.trained(_case(lab.scale, kind, layers), [Losses()], twin if kind == "transferred" else None)
    return network, network.found[0]


def _table(lab: Lab, key: str, network: Trained, transferred: bool) -> None:
    loss = risk(network.model, network.data)
    state: dict[str, Tensor] = dict(network.model.named_parameters())
    if transferred:
        state = to_residual_state(state, shifted(network.model))
    term = WEIGHT_DECAY / 2 * squared_norm(state.values())
    lab.record(f"{key}.loss", loss)
    lab.record(f"{key}.cost", loss + term, note="loss + (lambda / 2) |T^-1(p)|^2")
    lab.record(f"{key}.error", 1 - lab.result.networks[network.name]["test_accuracy"])


def _output_gap(plain: Trained, residual: Trained) -> float:
    weight = next(plain.model.parameters())
    inputs = plain.data.inputs(range(min(100, len(plain.data)))).to(weight)
    with torch.no_grad():
        return float((plain.model(inputs) - residual.model(inputs)).abs().max())
