"""Equations 3 to 8 beside the networks that they describe: relative error of every prediction against the amplitude.

Equation 4 is equation 3 at y + xi, so that it is judged like it, and its second line is an identity. Equation 6 leaves
out the bias; with it, it is the perceptron's map and exact.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdyn.nets import LogisticResNet, layer_map
from resdyn.papers import pictures
from resdyn.papers.lab import Lab
from resdyn.papers.transient_dynamics import theory
from resdyn.papers.transient_dynamics.networks import SAMPLES, case, logistic, states_of

AMPLITUDES = np.geomspace(1e-4, 1.0, 9)
NOISY = 0.1  # amplitude at which equations 4 and 6 are judged
SMALL = slice(0, 5)  # amplitudes up to 1e-2, where an order of convergence is read off
TITLES = {
    "resnet.flow": "ResNet, equation 5",
    "resnet.order1": "ResNet, layer's map to order 1",
    "resnet.order2": "ResNet, layer's map to order 2",
    "mlp.printed1": "MLP, equation 7 as printed",
    "mlp.printed2": "MLP, equation 8 as printed",
    "mlp.order1": "MLP, equation 7 with W",
    "mlp.order2": "MLP, equation 8 with W",
}


def run(lab: Lab) -> None:
    """One layer ahead, from the measured residuals and noise of a network with shared weights, over all layers."""
    errors: dict[str, NDArray[np.float64]] = {}
    for kind, predict in (("shared", _resnet), ("mlp", _mlp)):
        network = lab.trained(case(lab.scale, kind))
        model = logistic(network)
        x = states_of(lab, network, SAMPLES[lab.scale])[0]
        if kind == "shared":
            _record_flow(lab, model, x)
        unit = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype) - 1
        with torch.no_grad():
            found = [predict(model, x, a * unit) for a in AMPLITUDES]
            if kind == "mlp":
                _record_growth(lab, model, x, unit)
                _record_equation6(lab, model, x + NOISY * unit)
            else:
                _record_equation4(lab, model, x, NOISY * unit)
        errors |= {key: np.array([row[key] for row in found]) for key in found[0]}
    for key, values in errors.items():
        note = f"{TITLES[key]}: |predicted - measured| / |measured| of xi(t+1) - xi(t), one layer ahead"
        lab.record(f"{key}.error", values[2], note=f"amplitude {AMPLITUDES[2]:.0e}; {note}")
        order = np.polyfit(np.log(AMPLITUDES[SMALL]), np.log(values[SMALL]), 1)[0]
        lab.record(f"{key}.slope", order, note="of log error against log amplitude, amplitudes up to 1e-2")
    rows = [pictures.series(TITLES[key], AMPLITUDES, values) for key, values in errors.items()]
    title = "Noise one layer ahead: relative error of each equation"
    lab.picture(
        "errors",
        pictures.lines(
            title, "equations 5, 7, 8", rows, "amplitude of the noise", "relative error", log=True, logx=True
        ),
    )


def _record_flow(lab: Lab, model: LogisticResNet, x: Tensor) -> None:
    """Equation 3 as one Euler step, and the layer's map, against y(t+1) - y(t)."""
    W = layer_map(model.blocks[0]).weight.detach()
    with torch.no_grad():
        y = torch.stack([row for _, row in model.walk(x)])
    measured = y[1:] - y[:-1]
    inside = (y[:-1] > 1e-12) & (y[:-1] < 1 - 1e-12)  # where the logit is known
    flow = theory.residual_flow(y[:-1], W)
    exact = torch.where(inside, theory.residual_map(y[:-1].clamp(1e-12, 1 - 1e-12), W) - y[:-1], measured)
    size = measured.norm()
    lab.record("flow.error", float((flow - measured).norm() / size), note="equation 3 with step 1: relative error")
    lab.record("map.error", float((exact - measured).norm() / size), note="y(t+1) = f(f^-1(y) + W y): relative error")


def _record_equation4(lab: Lab, model: LogisticResNet, x: Tensor, eta: Tensor) -> None:
    """Its second line against its first, and the first against the change of the noisy residuals."""
    W = layer_map(model.blocks[0]).weight
    clean, noisy = (torch.stack([y for _, y in model.walk(start)]) for start in (x, x + eta))
    y, xi = clean[:-1], noisy[:-1] - clean[:-1]
    flow = theory.residual_flow(noisy[:-1], W)
    expanded = theory.residual_flow(y, W) + theory.noise_flow(y, xi, W)
    note = "largest difference of its two lines, over the largest value"
    lab.record("equation4.lines", float((expanded - flow).abs().max() / flow.abs().max()), note=note)
    measured = noisy[1:] - noisy[:-1]
    error = float((flow - measured).norm() / measured.norm())
    lab.record("equation4.error", error, note=f"relative error with step 1, noise {NOISY:g} on x(0)")


def _record_equation6(lab: Lab, model: LogisticResNet, x: Tensor) -> None:
    """-(y + xi) + f(W (y + xi)), as printed and with the bias, against the change of the noisy residuals."""
    layer = layer_map(model.blocks[0])
    y = torch.stack([x, *(y for _, y in model.walk(x))])
    measured = y[1:] - y[:-1]
    for name, z in (("printed", y[:-1] @ layer.weight.T), ("with_bias", layer(y[:-1]))):
        error = float((torch.sigmoid(z) - y[:-1] - measured).norm() / measured.norm())
        lab.record(f"equation6.{name}", error, note=f"relative error with step 1, noise {NOISY:g} on x(0)")


def _record_growth(lab: Lab, model: LogisticResNet, x: Tensor, unit: Tensor) -> None:
    """Does a perceptron suppress small noise, as is concluded from equation 7?"""
    small = 1e-4 * unit
    pairs = zip(model.walk(x), model.walk(x + small))
    sizes = [small.norm(dim=1)] + [(noisy - clean).norm(dim=1) for (clean, _), (noisy, _) in pairs]
    growth = (sizes[-1] / sizes[0]).cpu().numpy()
    lab.record("mlp.growth", growth, "test images", "|xi(T)| / |xi(0)| at amplitude 1e-4")
    layers = torch.stack(sizes)
    ratios = (layers[1:] / layers[:-1]).cpu().numpy()  # (layer, image)
    worst = int(ratios.mean(1).argmax())
    note = f"largest |xi(t+1)| / |xi(t)|, mean over images; layer {worst + 1}"
    lab.record("mlp.growth_layer", ratios[worst], "test images", note)
    lab.record("mlp.growing_share", (ratios > 1).mean(0), "test images", "share of the layers in which noise grows")


def _resnet(model: LogisticResNet, x: Tensor, eta: Tensor) -> dict[str, float]:
    W, clean, noisy = layer_map(model.blocks[0]).weight, list(model.walk(x)), list(model.walk(x + eta))
    measured, predicted = [], {"resnet.flow": [], "resnet.order1": [], "resnet.order2": []}  # type: ignore[var-annotated]
    for t in range(len(clean) - 1):
        (state, y), (state_noisy, y_noisy), y_next = clean[t], noisy[t], clean[t + 1][1]
        xi, change = y_noisy - y, (state_noisy - state) @ W.T
        measured.append(noisy[t + 1][1] - y_next - xi)
        predicted["resnet.flow"].append(theory.noise_flow(y, xi, W))
        for order in (1, 2):
            predicted[f"resnet.order{order}"].append(theory.layer_noise(y_next, change, order) - xi)
    return _relative(predicted, measured)


def _mlp(model: LogisticResNet, x: Tensor, eta: Tensor) -> dict[str, float]:
    W = layer_map(model.blocks[0]).weight
    clean, noisy = [x, *(y for _, y in model.walk(x))], [x + eta, *(y for _, y in model.walk(x + eta))]
    keys = ("mlp.printed1", "mlp.printed2", "mlp.order1", "mlp.order2")
    measured, predicted = [], {key: [] for key in keys}  # type: ignore[var-annotated]
    for t in range(len(clean) - 1):
        xi, y_next = noisy[t] - clean[t], clean[t + 1]
        measured.append(noisy[t + 1] - y_next - xi)
        for order in (1, 2):
            predicted[f"mlp.printed{order}"].append(theory.printed_mlp_noise_flow(y_next, xi, order))
            predicted[f"mlp.order{order}"].append(theory.layer_noise(y_next, xi @ W.T, order) - xi)
    return _relative(predicted, measured)


def _relative(predicted: dict[str, list[Tensor]], measured: list[Tensor]) -> dict[str, float]:
    truth = torch.stack(measured)
    return {key: float((torch.stack(rows) - truth).norm() / truth.norm()) for key, rows in predicted.items()}
