"""How good a detector is: VOC 11-point, VOC area and COCO average precision, tables and plots."""

from multibox.evaluation.measure import (
    Evaluation,
    ImageDetector,
    Metric,
    evaluate_detections,
    evaluate_model,
)
from multibox.evaluation.report import per_class_table, plot_precision_recall, write_json

__all__ = [
    "Evaluation",
    "ImageDetector",
    "Metric",
    "evaluate_detections",
    "evaluate_model",
    "per_class_table",
    "plot_precision_recall",
    "write_json",
]
