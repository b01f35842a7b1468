"""Small residual networks whose blocks are known because they were built that way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """What to build: `kind` dense, conv or attention; `order` pre or post; projections at these blocks."""

    kind: str
    order: str
    norm: str
    activation: str
    blocks: int
    projections: frozenset[int] = frozenset()
    classifier: bool = True

    @property
    def expected(self) -> list[tuple[str, str]]:
        """(skip, gate) of every block."""
        gate = {"pre": "none", "post": self.activation, "postnorm": "layernorm"}[self.order]
        return [("projection" if i in self.projections else "identity", gate) for i in range(self.blocks)]


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1))


class Block(nn.Module):
    """relu(skip(x) + F(x)), x + F(norm(x)) or norm(x + F(x)), by the plan."""

    def __init__(self, plan: Plan, width: int, out: int, project: bool) -> None:
        super().__init__()
        self.order = plan.order
        self.before = norm(plan, width) if plan.order == "pre" else nn.Identity()
        self.first = mixing(plan, width, out)
        self.activation = ACTIVATIONS[plan.activation]()
        self.second = nn.Identity() if plan.kind == "attention" else mixing(plan, out, out)
        self.inner = norm(plan, out) if plan.order == "post" else nn.Identity()
        self.skip = mixing(plan, width, out, size=1) if project else nn.Identity()
        activation, norm_after = ACTIVATIONS[plan.activation](), nn.LayerNorm(out)
        self.after = {"pre": nn.Identity(), "post": activation, "postnorm": norm_after}[plan.order]

    def forward(self, x: Tensor) -> Tensor:
        branch = self.inner(self.second(self.activation(self.first(self.before(x)))))
        return self.after(self.skip(x) + branch)


class Net(nn.Module):
    """Stem, blocks, and a head that pools and classifies (with a final norm for pre-activation nets)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width = 6
        self.plan = plan
        self.stem = stem(plan, width)
        blocks = []
        for i in range(plan.blocks):
            out = width + 2 if i in plan.projections else width
            blocks.append(Block(plan, width, out, i in plan.projections))
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(plan, width) if plan.order == "pre" else nn.Identity()
        self.head = nn.Linear(width, 5) if plan.classifier else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.blocks(self.stem(x)))
        if self.plan.kind == "conv":
            h = h.mean((2, 3))
        elif self.plan.kind == "attention":
            h = h[:, 0]
        return self.head(h)


def mixing(plan: Plan, width: int, out: int, size: int = 3) -> nn.Module:
    """The map that mixes coordinates in a branch, or projects in a skip."""
    if plan.kind == "conv":
        return nn.Conv2d(width, out, size, padding=size // 2)
    if plan.kind == "attention" and size == 3 and width == out:
        return Attention(width)
    return nn.Linear(width, out)


def norm(plan: Plan, width: int) -> nn.Module:
    if plan.norm == "none":
        return nn.Identity()
    if plan.norm == "batch" and plan.kind != "attention":
        return (nn.BatchNorm2d if plan.kind == "conv" else nn.BatchNorm1d)(width)
    return nn.GroupNorm(2, width) if plan.kind == "conv" else nn.LayerNorm(width)


def stem(plan: Plan, width: int) -> nn.Module:
    end = {"pre": [], "post": [ACTIVATIONS[plan.activation]()], "postnorm": [nn.LayerNorm(width)]}[plan.order]
    first = nn.Conv2d(3, width, 3, padding=1) if plan.kind == "conv" else nn.Linear(3, width)
    return nn.Sequential(first, *end)


def example(plan: Plan, samples: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = {"dense": (3,), "conv": (3, 5, 5), "attention": (4, 3)}[plan.kind]
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def build(plan: Plan, seed: int = 0) -> nn.Module:
    """The net in float64 and eval mode, batch norm statistics away from their defaults."""
    torch.manual_seed(seed)
    net = Net(plan).double()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


class PrescribedBlock(nn.Module):
    """h -> h + A h (1 + 0): a block whose residual Jacobian is the given matrix everywhere."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, h: Tensor) -> Tensor:
        return h + torch.sin(h) @ self.matrix.T


def prescribed(matrices: list[Tensor]) -> nn.Module:
    """A net whose i-th branch has the Jacobian A_i diag(cos h) at h."""
    return nn.Sequential(*[PrescribedBlock(matrix) for matrix in matrices]).eval()
