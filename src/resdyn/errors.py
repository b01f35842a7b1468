"""What resdyn raises: every message says what was got, what was expected and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "ComputationError",
    "InputError",
    "MissingExtraError",
    "ResdynError",
    "StoreError",
    "did_you_mean",
    "require",
]


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
        """The error that says how `package` is installed.

        Args:
            package: Its name on PyPI.
            extra: The extra of resdyn that brings it.
        """
        return cls(f"this needs the package '{package}'; install it with: pip install 'resdyn[{extra}]'")


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        package: What is imported, such as "lightning" or "transformers.trainer_callback".
        extra: The extra of resdyn that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: If the package is not installed.
        ModuleNotFoundError: If it is installed and lacks something else.

    Example:
        >>> require("json", "none").__name__
        'json'
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError.for_package(package, extra) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    Args:
        name: What was given.
        known: The names that there are.

    Returns:
        " Did you mean 'x'?" for the closest known name, or an empty string where none is close.

    Example:
        >>> did_you_mean("cifar1", ["mnist", "cifar10"])
        " Did you mean 'cifar10'?"
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""
