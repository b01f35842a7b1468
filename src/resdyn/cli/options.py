"""Types of options on the command line and in configuration files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Digits and no more: the parser's own conversion would round 2.5 to 2."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise ValueError(f"got '{text}', expected a whole number")
    return int(text)


Whole = Annotated[int, Parameter(converter=_whole)]
