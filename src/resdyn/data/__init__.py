"""Labelled images by name or by path, windows of text, and the preprocessing before a model sees them."""

from resdyn.data.catalog import DATASETS, load_data
from resdyn.data.images import Batch, ImageData
from resdyn.data.preprocessing import Preprocessing
from resdyn.data.text import TokenData, load_text, windows

__all__ = ["DATASETS", "Batch", "ImageData", "Preprocessing", "TokenData", "load_data", "load_text", "windows"]
