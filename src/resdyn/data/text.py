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


@dataclass(frozen=True, eq=False)
class TokenData:
    """Windows of one text: `tokens` int64 (N, T), and the token that follows each, `following` int64 (N,).

    At the last position a language model answers which token follows: then `following` are its labels, and loss and
    accuracy mean what they mean in training. notes: what a reader of any number from these data must know.
    """

    name: str
    tokens: Tensor
    following: Tensor
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)


def load_text(path: str | Path, encode: Callable[[str], Sequence[int]], length: int = 64, name: str = "") -> TokenData:
    """Windows of `length` tokens that follow each other without overlap, of a text file in UTF-8.

    encode: text -> token ids, such as `tokenizer.encode` of transformers (without special tokens). The last tokens
    that fill no window with a token after it are left out.

    Errors: InputError for a file that cannot be read or is not UTF-8, and for a text of fewer than `length` + 1 tokens.
    """
    path = checks.path("path", path)
    length = checks.whole("length", length, 1)
    try:
        text = read_regular(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}' as text in UTF-8: {error}") from error
    return windows(torch.as_tensor(list(encode(text)), dtype=torch.int64), length, name or path.name)


def windows(tokens: Tensor, length: int, name: str = "tokens") -> TokenData:
    """Token ids in a row (n,) as windows of `length` that follow each other."""
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
