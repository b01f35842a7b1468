"""Models by specification, with their weights: in eval mode, checked and hashed."""

from resdyn.models.loading import LoadedModel, load_model
from resdyn.models.weights import load_weights, weights_hash

__all__ = ["LoadedModel", "load_model", "load_weights", "weights_hash"]
