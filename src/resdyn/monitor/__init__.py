"""Measuring a network while it trains, within a budget and without disturbing it."""

from resdyn.monitor.monitor import Monitor

__all__ = ["Monitor"]
