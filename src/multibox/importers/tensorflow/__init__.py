"""Frozen graphs of TensorFlow's object detection API: SSD on MobileNetV1 and MobileNetV2."""

from multibox.importers.tensorflow.read import read

__all__ = ["read"]
