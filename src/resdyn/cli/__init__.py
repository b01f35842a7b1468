"""The command line: the one place that composes everything."""

from resdyn.cli.app import main

__all__ = ["main"]
