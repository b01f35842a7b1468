"""The paper's numbers, by the key of ours that they are compared with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@cache
def _numbers() -> dict[str, float]:
    content = json.loads((Path(__file__).parent / "expected.json").read_text(encoding="utf-8"))
    claims = [claim for experiment in content["experiments"] for claim in experiment["claims"]]
    return {c["number"]: float(c["paper"]) for c in claims if isinstance(c["paper"], int | float)}


def printed(keys: list[str]) -> NDArray[np.float64]:
    """What the paper prints for some keys; NaN where it prints nothing."""
    return np.array([_numbers().get(key, np.nan) for key in keys])
