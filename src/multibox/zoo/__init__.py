"""The named detectors: their architecture, default boxes and preprocessing as model cards."""

from multibox.zoo.detectors import MODELS, ZooModel, find_model, new_card

__all__ = ["MODELS", "ZooModel", "find_model", "new_card"]
