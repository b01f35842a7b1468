"""Which positions of a sequence count: those of tokens, without the first and the last ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resdyn.errors import InputError
from resdyn.stream.arguments import Arguments

MASK = "attention_mask"


def token_mask(inputs: Arguments, tokens: int, mask: Tensor | None = None) -> Tensor:
    """Where tokens are, not padding: bool (N, T), by the mask given or the model's own input `attention_mask`.

    Raises:
        InputError: For a mask of another shape, or of other values than 0 and 1.
    """
    named = inputs.kwargs.get(MASK) if MASK not in inputs.shared else None
    given = mask if mask is not None else named
    if given is None:
        return torch.ones(len(inputs), tokens, dtype=torch.bool)
    if tuple(given.shape) != (len(inputs), tokens):
        what = "mask" if mask is not None else f"input '{MASK}'"
        raise InputError(
            f"got {what} of shape {tuple(given.shape)}, expected ({len(inputs)}, {tokens}), one number per sample and "
            "token: pass mask=, bool, True where a token is"
        )
    given = given.cpu()
    if not bool(((given == 0) | (given == 1)).all()):
        raise InputError(f"got a mask with the value {float(given.flatten()[0])}, expected 0 and 1; pass mask=")
    return given.bool()


def valid_positions(mask: Tensor, skip_first: int, skip_last: int, names: Sequence[int]) -> Tensor:
    """The tokens of each sample without its first and last ones; padding is not counted.

    Args:
        mask: bool (N, T), True where a token is.
        skip_first: Tokens to leave out at the start.
        skip_last: Tokens to leave out at the end.
        names: Index of each sample, for the message.

    Returns:
        bool (N, T).

    Raises:
        InputError: For a sample of which no position is left.

    Example:
        >>> valid_positions(torch.tensor([[False, True, True, True, True]]), 1, 1, [0])
        tensor([[False, False,  True,  True, False]])
    """
    place, count = mask.long().cumsum(1) - 1, mask.sum(1, keepdim=True)
    valid = mask & (place >= skip_first) & (place < count - skip_last)
    if bool((empty := ~valid.any(1)).any()):
        row = int(empty.int().argmax())
        raise InputError(
            f"sample {names[row]} has {int(count[row])} tokens, of which none is left without the first {skip_first} "
            f"and the last {skip_last} ({int(empty.sum())} of {len(mask)} samples are as short); leave them out, or "
            "pass a smaller skip_first"
        )
    return valid
