"""Labelled pictures: the formats they come in, their augmentation, and batches of them."""

from multibox.data.labels import problems_summary
from multibox.data.open import available_splits, open_data
from multibox.data.samples import DataSet, Problem, Sample

__all__ = ["DataSet", "Problem", "Sample", "available_splits", "open_data", "problems_summary"]
