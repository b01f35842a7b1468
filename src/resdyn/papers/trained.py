"""A network that an experiment measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from resdyn.data import ImageData
from resdyn.nets import ResidualBlock
from resdyn.papers.case import Case, Pretrained
from resdyn.stream import ResidualStream, find_stream, stream_from_blocks


@dataclass(frozen=True)
class Trained:
    """A network in eval mode, the images it was (or is to be) trained on, and what its callbacks found.

    Of a pretrained network `data` are the test images.
    """

    case: Case | Pretrained
    model: nn.Module
    data: ImageData
    found: list[Any]
    run: str = ""  # what distinguishes this run from others of the case

    @property
    def name(self) -> str:
        """Its name among the networks of a result."""
        return self.run or self.case.name

    @cached_property
    def stream(self) -> ResidualStream:
        """The residual stream, found when it is asked for; without skips the blocks are plain layers, named by hand."""
        example = self.data.inputs([0]).to(device())
        blocks = [module for module in self.model.modules() if isinstance(module, ResidualBlock)]
        if blocks and all(block.shortcut is None for block in blocks):
            paths = [f"blocks.{i}" for i in range(len(blocks))]
            return stream_from_blocks(self.model, paths, example, skip="none")
        return find_stream(self.model, example)


def device() -> str:
    """Where networks are trained and measured: on a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
