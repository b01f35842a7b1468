"""Which properties a network has: a stated rule per property, its numbers, and the same numbers untrained."""

from resdyn.metrics.properties.concluding import conclusion, verdicts
from resdyn.metrics.properties.explanation import explained
from resdyn.metrics.properties.judged import Criterion, Finding, Property, PropertyVerdict

__all__ = ["Criterion", "Finding", "Property", "PropertyVerdict", "conclusion", "explained", "verdicts"]
