"""The command line: the one place that composes everything."""

from resdyn.cli.main import main

__all__ = ["main"]
