"""Windows of text as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resdyn import _checks as checks
from resdyn.data.pixels import read_regular
from resdyn.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class TokenData:
    """Windows of one text, and the token that follows each.

    At its last position a language model predicts the following token: with ``following`` as labels, loss and accuracy
    mean what they mean in training.

    Attributes:
        name: of the text.
        tokens: (N, T) int64.
        following: (N,) int64.
        notes: what a reader of any number from these data must know.
    """

    name: str
    tokens: Tensor
    following: Tensor
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"TokenData({self.name}, {len(self)} windows of {self.tokens.shape[-1]} tokens)"


def load_text(path: str | Path, encode: Callable[[str], Sequence[int]], length: int = 64, name: str = "") -> TokenData:
    """Consecutive windows of ``length`` tokens, without overlap, of a text file in UTF-8.

    Args:
        path: a regular file.
        encode: text -> token ids, such as ``tokenizer.encode`` of transformers (without special tokens).
        length: tokens per window (default 64).
        name: of the data; default: the file's name.

    Returns:
        The windows; the last tokens, which do not fill a window with a token after it, are omitted.

    Raises:
        InputError: a file that cannot be read or is not UTF-8, or a text of fewer than ``length`` + 1 tokens.
    """
    path = checks.path("path", path)
    length = checks.whole("length", length, 1)
    try:
        text = read_regular(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}' as text in UTF-8: {error}") from error
    return windows(torch.as_tensor(list(encode(text)), dtype=torch.int64), length, name or path.name)


def windows(tokens: Tensor, length: int, name: str = "tokens") -> TokenData:
    """Consecutive windows of a row of token ids.

    Args:
        tokens: (n,) integers.
        length: tokens per window.
        name: of the data (default "tokens").

    Returns:
        (n - 1) // length windows, with the token that follows each.

    Raises:
        InputError: another tensor, or fewer than ``length`` + 1 tokens.

    Example:
        >>> windows(torch.arange(5), 2).tokens, windows(torch.arange(5), 2).following
        (tensor([[0, 1],
                [2, 3]]), tensor([2, 4]))
    """
    if not isinstance(tokens, Tensor) or tokens.dim() != 1 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise checks.wrong("tokens", tokens, "a tensor of token ids in one row (n,)")
    count = (len(tokens) - 1) // checks.whole("length", length, 1)
    if count < 1:
        raise InputError(
            f"got {len(tokens)} tokens in {name}, expected at least {length + 1} for one window of {length}"
        )
    return TokenData(
        name, tokens[: count * length].reshape(count, length), tokens[length : count * length + 1 : length]
    )
