"""The map T between plain and residual networks of the same parameters, on state dicts and on models."""

from resdyn.interventions.transfer.models import to_plain, to_residual
from resdyn.interventions.transfer.state import to_plain_state, to_residual_state
from resdyn.interventions.transfer.units import UnitLayer, unit_layers

__all__ = ["UnitLayer", "to_plain", "to_plain_state", "to_residual", "to_residual_state", "unit_layers"]
