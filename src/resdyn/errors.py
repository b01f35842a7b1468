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
        """The error for a package that an extra brings.

        Args:
            package: Name of the package.
            extra: The extra of resdyn that installs it.

        Returns:
            The error, with the command that installs the extra.
        """
        return cls(f"this needs the package '{package}'; install it with: pip install 'resdyn[{extra}]'")


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        package: Name of the module to import.
        extra: The extra of resdyn that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: The package is not installed.

    Example:
        >>> require("json", "report").__name__
        'json'
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError.for_package(package, extra) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a message: the closest known name.

    Args:
        name: What was given.
        known: The names that there are.

    Returns:
        " Did you mean 'x'?", or an empty string where none is close.

    Example:
        >>> did_you_mean("cifar1", ["mnist", "cifar10"])
        " Did you mean 'cifar10'?"
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""
