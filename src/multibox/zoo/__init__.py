"""The named detectors: their architecture, default boxes and preprocessing as model cards."""

from multibox.zoo.detectors import MODELS, find_model, new_card
from multibox.zoo.entry import BoxSet, Published, ZooModel

__all__ = ["MODELS", "BoxSet", "Published", "ZooModel", "find_model", "new_card"]
