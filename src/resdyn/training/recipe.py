"""What a training run is, apart from model and data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from resdyn import _checks as checks
from resdyn.errors import InputError

SCHEDULES = ("cosine", "constant", "step")
OPTIMIZERS = ("sgd", "adam")
PRECISIONS = ("highest", "high", "medium")
AUTOCASTS = ("off", "bfloat16")
MEMORY_FORMATS = ("contiguous", "channels_last")


@dataclass(frozen=True)
class Recipe:
    """Descent on mean cross entropy plus (weight_decay / 2) |w|^2 over all parameters.

    Attributes:
        epochs: Passes over all images, at least 1.
        augment: Shift every image by up to 4 pixels and mirror it at random (He et al., 2016).
        lr: The learning rate that the schedule begins with, positive.
        weight_decay: At least 0; 0 is none.
        batch_size: Images per step, at least 2.
        momentum: Of `sgd`, in [0, 1).
        schedule: The learning rate of epoch t = 0 .. epochs-1: lr (1 + cos(pi t / epochs)) / 2 with `cosine`
            (Loshchilov and Hutter, 2017, equation 5, one cycle), lr with `constant`, and with `step` lr, divided by 10
            after three fifths of the epochs and once more after four fifths (Yu and Tomasi: 120 and 160 of 200).
        seed: Orders the images and draws what else is random in training; the initial weights belong to the model.
        optimizer: `sgd` (with `momentum`) or `adam` (Kingma and Ba, 2015, with its own constants; no `momentum`).
        matmul_precision: Of products of float32 matrices while training, as for
            `torch.set_float32_matmul_precision`: `highest`, `high`, or `medium`, which multiplies in bfloat16 where the
            processor can, several times as fast, and still adds up in float32.
        autocast: `bfloat16` computes convolutions and products of matrices in bfloat16 while weights, their
            gradients and the loss stay float32 (`torch.autocast`), and so do layer norms; `off` computes in the
            precision of the weights.
        memory_format: Of images and kernels while training, `contiguous` (N, C, H, W) or `channels_last`, in which
            convolutions on processors are faster; the values differ by rounding alone. Networks with group norms are
            refused in it: theirs differ by more.

    Raises:
        InputError: For a value outside these.

    Source:
        Li and Papyan (2023), equation 1 and section 2.3.

    Example:
        >>> Recipe(epochs=4, lr=0.1).learning_rate(2)
        0.05
    """

    epochs: int = 100
    augment: bool = False
    lr: float = 0.1
    weight_decay: float = 1e-2
    batch_size: int = 128
    momentum: float = 0.0
    schedule: str = "cosine"
    seed: int = 0
    optimizer: str = "sgd"
    matmul_precision: str = "highest"
    autocast: str = "off"
    memory_format: str = "contiguous"

    def __post_init__(self) -> None:
        checks.replace_checked(
            self,
            epochs=checks.whole("epochs", self.epochs, 1),
            batch_size=checks.whole("batch_size", self.batch_size, 2),
            augment=checks.flag("augment", self.augment),
            seed=checks.seed(self.seed),
            lr=checks.number("lr", self.lr, "a positive number", 0),
            weight_decay=checks.number("weight_decay", self.weight_decay, "a number of at least 0", least=0),
            momentum=checks.number("momentum", self.momentum, "a number in [0, 1)", least=0, below=1),
            schedule=checks.one_of("schedule", self.schedule, SCHEDULES),
            matmul_precision=checks.one_of("matmul_precision", self.matmul_precision, PRECISIONS),
            autocast=checks.one_of("autocast", self.autocast, AUTOCASTS),
            memory_format=checks.one_of("memory_format", self.memory_format, MEMORY_FORMATS),
        )
        if self.optimizer not in OPTIMIZERS or (self.optimizer == "adam" and self.momentum):
            raise InputError(
                f"got optimizer '{self.optimizer}' with momentum={self.momentum}, expected one of "
                f"{', '.join(OPTIMIZERS)}, and momentum with sgd alone"
            )

    def settings(self) -> dict[str, Any]:
        """What a run with this recipe is, as plain data.

        Fields that came later (`autocast`, `memory_format`) are named where they are not the default alone, so that
        checkpoints and names of runs from before they existed still hold.

        Example:
            >>> "autocast" in Recipe().settings(), Recipe(autocast="bfloat16").settings()["autocast"]
            (False, 'bfloat16')
        """
        content = dataclasses.asdict(self)
        for name, default in (("autocast", "off"), ("memory_format", "contiguous")):
            if content[name] == default:
                del content[name]
        return content

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch.

        Args:
            epoch: Counted from 0.
        """
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr / 10 ** sum(5 * epoch >= part * self.epochs for part in (3, 4))
        return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
