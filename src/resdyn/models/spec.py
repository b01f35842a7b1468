"""Model specifications: ``scheme:name,option=value,...`` or ``file.py:factory,option=value,...``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resdyn.errors import InputError, did_you_mean

SCHEMES = ("resdyn", "hf", "timm", "torchvision")
EXPECTED = (
    "expected file.py:factory, resdyn:<net>, hf:<id or folder>, timm:<name> or torchvision:<name>, "
    "with options as in resdyn:mlp,width=64,depth=8"
)


@dataclass(frozen=True)
class ModelSpec:
    """A parsed specification.

    Attributes:
        scheme: one of ``SCHEMES``, or "file".
        name: of the model; for files, of the factory.
        path: for files, the file.
        options: keyword arguments of the factory.
    """

    scheme: str
    name: str
    path: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def parse_spec(text: str) -> ModelSpec:
    """Parse a model specification; options are integers, floats, booleans, shapes (3x32x32) or words.

    Args:
        text: such as "resdyn:mlp,width=64".

    Returns:
        Its parts.

    Raises:
        InputError: an unknown scheme, or an option that is not ``name=value``.

    Example:
        >>> parse_spec("resdyn:mlp,width=64,in_features=1x8x8,skip=false").options
        {'width': 64, 'in_features': (1, 8, 8), 'skip': False}
    """
    head, *options = text.split(",") if not text.startswith("hf:") else [text]
    place, _, name = head.rpartition(":")
    if not place or not name:
        raise InputError(f"got model '{text}', {EXPECTED}")
    parsed = dict(_option(option, text) for option in options)
    if place.endswith(".py"):
        return ModelSpec("file", name, place, parsed)
    scheme, _, rest = head.partition(":")
    if scheme not in SCHEMES:
        raise InputError(f"got model '{text}', {EXPECTED}.{did_you_mean(scheme, SCHEMES)}")
    return ModelSpec(scheme, rest, options=parsed)


def _option(text: str, spec: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip().isidentifier():
        raise InputError(f"got '{text}' in model '{spec}', expected option=value, such as width=64")
    return key.strip(), _value(value.strip())


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float, _shape):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x"))
