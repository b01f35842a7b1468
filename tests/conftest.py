"""Shared by all tests: Hypothesis without minutes of shrinking, quiet logs, the real data's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "resdyn",
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("resdyn")
# Tests compute small things: a second thread would wait for the first more than it helps.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real datasets; tests that need it say that they skip where it is absent."""
    root = os.environ.get("RESDYN_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("RESDYN_DATA names no folder of datasets, so tests on real data skip")
    return Path(root)
