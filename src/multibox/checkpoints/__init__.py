"""Weights on disk: one safetensors file with the model card in its metadata."""

from multibox.checkpoints.files import atomic_write, write_json
from multibox.checkpoints.native import Checkpoint, load, read_card, save

__all__ = ["Checkpoint", "atomic_write", "load", "read_card", "save", "write_json"]
