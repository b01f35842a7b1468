"""Types of options on the command line and in configuration files. Nothing here loads PyTorch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token


def _to_whole(_: Any, tokens: Sequence[Token]) -> int:
    """Digits and no more: the parser's own conversion would round 2.5 to 2."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise ValueError(f"got '{text}', expected a whole number")
    return int(text)


def _to_device(_: Any, tokens: Sequence[Token]) -> str:
    """A device's name by its form; whether there is one, PyTorch is asked later."""
    text = tokens[0].value
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"got '{text}', expected auto, cpu, cuda, cuda:INDEX or mps")
    return text


EVERY = Group("Every command", sort_key=90)
Whole = Annotated[int, Parameter(converter=_to_whole)]
Kind = Literal["gated", "branch", "block"]
Granularity = Literal["join", "layer"]
Weights = Annotated[Path | None, Parameter(help="Weights: safetensors, or a torch file of tensors only.")]
Blocks = Annotated[
    tuple[str, ...], Parameter(help="Module paths of the blocks, instead of discovery.", consume_multiple=True)
]
DataRoot = Annotated[Path | None, Parameter(help="Folder of datasets (default: RESDYN_DATA).")]
Device = Annotated[
    str,
    Parameter(
        converter=_to_device,
        help="Where to compute: cpu, cuda, cuda:INDEX, mps, or auto: the first CUDA device, else the CPU.",
    ),
]
Dtype = Annotated[
    Literal["float32", "float64", "float16", "bfloat16"] | None,
    Parameter(help="Precision that the model is cast to (default: its own)."),
]
Json = Annotated[bool, Parameter(help="Print results as one JSON object.", group=EVERY)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure, on what."""

    data: str
    "digits, mnist, fashion_mnist, cifar10, cifar100, imagenette, a folder of images by class, or a text file (.txt)."
    weights: Weights = None
    probes: str | None = None
    """Any of trajectory, singular, coupling, spectrum, robustness, cushion, features, lyapunov; with settings:
    singular(k=30). Default: trajectory, singular, coupling, spectrum and, for classes and the whole state, features."""
    samples: Whole | None = None
    "Images or windows of text to measure one by one, images spread over the classes (default: 16, or all of fewer)."
    tokens: Whole = 64
    "Tokens per window of text."
    split: str = "test"
    "Split of the data."
    classes: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    "Only these classes, by name."
    kind: Kind = "gated"
    "Reading of a block's Jacobian: gated (skip excluded), branch, or the whole block."
    position: Whole | None = None
    "Measure one token of states of shape (tokens, width), -1 the last (default: the whole state)."
    granularity: Granularity = "join"
    "Blocks are residual sums (join), or layers: attention and feed-forward as one (layer)."
    within: str | None = None
    "Module whose blocks to measure, such as decoder (default: those of the longest chain)."
    seed: Whole = 0
    "Seed of the choice of samples and of the solvers."
    feature_samples: Whole | None = None
    "Images for the features probe (default: all of the split)."
    blocks: Blocks = ()
    data_root: DataRoot = None
    device: Device = "auto"
    dtype: Dtype = None
    workers: Whole = 0
    "Local worker processes (0: this process)."
    scheduler: str | None = None
    "Address of a dask.distributed scheduler."
    null: bool = False
    "Measure the same network untrained, too, into STORE-untrained: what the verdicts compare with."
