"""What resdyn raises: every message says what was got, what was expected and what to do."""

from __future__ import annotations

import importlib
from types import ModuleType


class ResdynError(Exception):
    """Base of everything that resdyn raises on purpose."""


class InputError(ResdynError, ValueError):
    """Wrong usage or input; the command line leaves with exit code 2."""


class ComputationError(ResdynError, RuntimeError):
    """A computation failed on input that looked right; exit code 1."""


class StoreError(InputError):
    """A store that cannot be opened, written, or that belongs to other settings."""


class MissingExtraError(InputError, ImportError):
    """An optional package is needed and not installed."""

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        return cls(f"this needs the package '{package}'; install it with: pip install 'resdyn[{extra}]'")


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError.for_package(package, extra) from error
