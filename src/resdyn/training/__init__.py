"""Training that can be watched, killed and resumed."""

from resdyn.training.adaptive import AdaptiveDepth
from resdyn.training.callbacks import Callback, EpochEnd
from resdyn.training.demo import DIGITS_RECIPE, TrainedDigits, train_digits
from resdyn.training.loop import History, Penalty, accuracy, train
from resdyn.training.recipe import Recipe
from resdyn.training.untrained import watch_untrained

__all__ = [
    "DIGITS_RECIPE",
    "AdaptiveDepth",
    "Callback",
    "EpochEnd",
    "History",
    "Penalty",
    "Recipe",
    "TrainedDigits",
    "accuracy",
    "train",
    "train_digits",
    "watch_untrained",
]
