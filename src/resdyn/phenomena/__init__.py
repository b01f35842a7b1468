"""What resdyn can measure: one descriptor per phenomenon, read by capture, metrics, report, comparison and monitor.

This package is a table of contents. It imports nothing of the packages that it names: a part of a descriptor is an
object, or where to find it (`"package.module:name"`), and is imported by the package that reads it.
"""

from resdyn.phenomena.phenomenon import Phenomenon
from resdyn.phenomena.registry import find_phenomenon, known_names, phenomena, phenomena_in, register

__all__ = ["Phenomenon", "find_phenomenon", "known_names", "phenomena", "phenomena_in", "register"]
