"""How the output depends on the state at every depth: products of Jacobians from the output back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from resdyn.errors import InputError
from resdyn.stream.cut import Cut, Evaluation, reach
from resdyn.stream.jacobian import JacobianOperator
from resdyn.stream.lookup import block_index
from resdyn.stream.states import States
from resdyn.stream.stream import ResidualStream

DENSE_LIMIT = 4096  # elements of a state up to which its Jacobian is materialised


@dataclass(frozen=True)
class LogDeterminants:
    """Logarithms of ``|det d h_L / d h_s|`` for s = 0..L, and the signs of the determinants.

    Attributes:
        values: (L+1,) float64, natural logarithms; -inf where a step is singular, NaN from the last state down whose
            step changes the number of elements.
        signs: (L+1,) float64, 1 or -1; 0 where a step is singular.
    """

    values: Tensor
    signs: Tensor


def step_jacobian(stream: ResidualStream, i: int | str, states: States) -> JacobianOperator:
    """d h_{i+1} / d h_i at one sample, including the transition after block i; i = L: d output / d h_L."""
    if states.num_samples != 1:
        raise InputError(f"a Jacobian belongs to one sample, got States of {states.num_samples}; pass states.sample(n)")
    i = block_index(stream.blocks, i) if isinstance(i, str) else i
    if not 0 <= i <= len(stream):
        raise InputError(
            f"there is no step {i}: the stream has steps 0 to {len(stream)}, the last from h_L to the output"
        )
    return between(stream, i, i + 1, states)


def between(stream: ResidualStream, i: int, j: int, states: States) -> JacobianOperator:
    """d h_j / d h_i at one sample, along every path between them; j = L + 1: of the output."""
    nodes = _points(stream)
    cut = Cut(stream._graph, [nodes[i]], [nodes[j]])
    function = cut.bind(Evaluation(stream._graph, states.inputs))
    at = states[i].reshape(nodes[i].meta["val"].shape)
    return JacobianOperator(lambda h: function(h)[0], at, cut.numel)


def _points(stream: ResidualStream) -> list[fx.Node]:
    """The states h_0..h_L and the output, as nodes."""
    return [*(block.join.fork for block in stream.blocks), stream.blocks[-1].join.out, stream._target]


def has_bypass(stream: ResidualStream) -> bool:
    """Whether something computed from a state is read after a later one: steps then do not multiply to the derivative.

    A value of the first layer that all layers read passes by the states between; a mask or an embedding, which no
    state reaches, does not.
    """
    nodes = _points(stream)
    for k in range(1, len(nodes) - 1):
        earlier = reach([nodes[k - 1]], lambda node: node.users, stop={nodes[k]})
        later = Cut(stream._graph, [nodes[k]], [nodes[-1]])
        if any(leaf in earlier for leaf in later.leaves):
            return True
    return False


def sensitivity(stream: ResidualStream, states: States) -> list[Tensor]:
    """The sensitivities ``S_s = d output / d h_s = K J_{L-1} ... J_s`` for s = 0..L at one sample.

    ``K = d output / d h_L`` (for logits ``K x + c`` of a flat last state, the classifier's weight), J_t is the Jacobian
    of step t. The product runs from the output back, so that only products with the transposed Jacobians are needed.

    Args:
        stream: of L blocks.
        states: of one sample (``states.sample(n)``).

    Returns:
        L + 1 matrices, s = 0 first, each (numel of output, numel of h_s).

    Raises:
        InputError: states of more than one sample.
        ComputationError: the model has other blocks than when the stream was found.

    Cost:
        numel(output) products with transposed Jacobians per step, (L + 1) numel(output) in all; where values computed
        from a state are read after a later one, as many products with each whole rest of the network.

    Source:
        Lagzi (2021), equations 9 and 10, ``S = K prod (I + M(t))``. The product printed there ends with ``I + M(s)``;
        as ``d x(s) / d y(s) = I``, the last factor of the derivative with respect to y(s) is ``I + M(s+1)``, which is
        what is computed here.
    """
    stream._renew_at(states)
    last = len(stream)
    if has_bypass(stream):
        return [_dense(between(stream, s, last + 1, states)) for s in range(last + 1)]
    products = [_dense(step_jacobian(stream, last, states))]
    for i in reversed(range(len(stream))):
        products.append(step_jacobian(stream, i, states).rmatmat(products[-1].T.contiguous()).T)
    return products[::-1]


def _dense(jacobian: JacobianOperator) -> Tensor:
    """The whole matrix, by products with its transpose."""
    return jacobian.rmatmat(torch.eye(jacobian.shape[0], dtype=jacobian.dtype, device=jacobian.device)).T


def log_determinants(stream: ResidualStream, states: States) -> LogDeterminants:
    """``log |det M'(s)|`` with ``M'(s) = d h_L / d h_s``, at one sample: sums of the log-determinants of all steps.

    Args:
        stream: of L blocks.
        states: of one sample (``states.sample(n)``).

    Returns:
        L + 1 natural logarithms and signs, s = 0 first; the last are 0 and 1.

    Raises:
        InputError: states of more than one sample, a state of more than 4096 elements, or a network in which values
            computed from a state are read after a later one, where no product of steps is the derivative.
        ComputationError: the model has other blocks than when the stream was found.

    Cost:
        numel(h) products and numel(h)^3 operations per step, in float64.

    Source:
        Lagzi (2021), appendix A.
    """
    stream._renew_at(states)
    if has_bypass(stream):
        raise InputError(
            "values computed from one state are read after a later one, so the determinants of the steps do not "
            "multiply to that of the derivative; `sensitivity` takes every path into account"
        )
    logs, signs = [], []
    for i in range(len(stream)):
        jacobian = step_jacobian(stream, i, states)
        if max(jacobian.shape) > DENSE_LIMIT:
            raise InputError(
                f"the Jacobian of step {i} is {jacobian.shape[0]} x {jacobian.shape[1]}, expected at most "
                f"{DENSE_LIMIT}: determinants are computed densely; `sensitivity` works at any size"
            )
        sign, log = torch.tensor(0.0), torch.tensor(torch.nan)
        if jacobian.shape[0] == jacobian.shape[1]:
            eye = torch.eye(jacobian.shape[1], dtype=jacobian.dtype, device=jacobian.device)
            sign, log = torch.linalg.slogdet(jacobian.matmat(eye).double())
        logs.append(log.double().cpu())
        signs.append(sign.double().cpu())
    one = torch.zeros(1, dtype=torch.float64)
    values = torch.cat([torch.stack(logs).flip(0).cumsum(0).flip(0), one])
    return LogDeterminants(values, torch.cat([torch.stack(signs).flip(0).cumprod(0).flip(0), one + 1]))
