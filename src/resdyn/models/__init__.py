"""Models by specification, with their weights: in eval mode, checked and hashed."""

from resdyn.models.loading import LoadedModel, load_model, text_encoder
from resdyn.models.untrained import untrained_twin
from resdyn.models.weights import load_weights, weights_hash

__all__ = ["LoadedModel", "load_model", "load_weights", "text_encoder", "untrained_twin", "weights_hash"]
