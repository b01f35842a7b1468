"""Labelled images by name or by path, and what is done to them before a model sees them."""

from resdyn.data.catalog import DATASETS, load_data
from resdyn.data.images import Batch, ImageData
from resdyn.data.preprocessing import Preprocessing

__all__ = ["DATASETS", "Batch", "ImageData", "Preprocessing", "load_data"]
