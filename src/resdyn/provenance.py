"""Where and with what something was computed."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import numpy as np
import torch

from resdyn._version import __version__

__all__ = ["machine", "versions"]


def machine(device: torch.device) -> dict[str, Any]:
    """The system, its cores, the threads that PyTorch uses, and the device by name."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def versions(*packages: str) -> dict[str, str]:
    """The versions of resdyn, Python, PyTorch and NumPy, and of further packages."""
    return {
        "resdyn": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    } | {package: metadata.version(package) for package in packages}
