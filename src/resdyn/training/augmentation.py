"""Images as a network sees them while it trains: shifted and mirrored at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 4


def augmented(inputs: Tensor) -> Tensor:
    """Each image (N, C, H, W) shifted by up to `SHIFT` pixels, zeros coming in, and mirrored with probability 1/2.

    Draws from torch's global generator. Source: He et al. (2016), "Deep residual learning", section 4.2.
    """
    count, _, height, width = inputs.shape
    padded = F.pad(inputs, (SHIFT,) * 4)
    rows, columns = (torch.randint(2 * SHIFT + 1, (count, 1)) + torch.arange(size) for size in (height, width))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    image = torch.arange(count)
    return padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
