"""Wrote v1.safetensors, when version 1 was the current one. Run it for a new version, never again.

The card has every field set to something that is not its default; the arrays are a few numbers.
"""

from pathlib import Path

import numpy as np

from multibox import checkpoints
from multibox.card import (
    SCHEMA_VERSION,
    Architecture,
    DefaultBoxLevel,
    DefaultBoxSpec,
    ExtraLayer,
    ModelCard,
    PostProcessing,
    Preprocessing,
)

CARD = ModelCard(
    model="ssd300_vgg16",
    names=("cat", "größe", "犬"),
    architecture=Architecture(
        backbone="timm:resnet18",
        strides=(8, 16),
        extras=(ExtraLayer(squeeze=8, channels=16, kernel=3, stride=2, padding=1),),
        extra_kind="conv-norm",
        heads=("conv3x3", "conv1x1", "separable"),
        norm_epsilon=1e-5,
        backbone_norm_epsilon=1e-4,
        activation="relu6",
        padding="tensorflow",
    ),
    preprocessing=Preprocessing(
        image_size=(96, 128),
        mean=(1.5, 2.5, 3.5),
        std=(57.0, 58.0, 59.0),
        fractions=True,
        channel_order="bgr",
        interpolation="linear-corner",
    ),
    default_boxes=DefaultBoxSpec(
        image_size=(96, 128),
        levels=(
            DefaultBoxLevel(
                grid=(12, 16), step=(8, 8), offset=0.25, min_size=10, max_size=20,
                aspect_ratios=(2, 3),
            ),
            DefaultBoxLevel(grid=(6, 8), shapes=((30, 40), (50.5, 20))),
            DefaultBoxLevel(grid=(3, 4), min_size=60),
        ),
        variances=(0.1, 0.2, 0.3, 0.4),
        clip="corners",
        truncate_sizes=True,
    ),
    postprocessing=PostProcessing(
        scores="sigmoid", score_threshold=0.3, iou_threshold=0.6, top_k=7, keep=5, clip="before",
        largest_log_ratio=4.0,
    ),
    recipe={"name": "modern", "epochs": 3, "ema": 0.05, "milestones": [0.5]},
    metrics={"epoch": 2, "validation": {"map": 0.25}},
    origin="written by hand",
    export={"format": "onnx", "precision": "float16"},
    parity={"reference": "none", "agrees": True},
)  # fmt: skip
ARRAYS = {
    "heads.classes.0.weight": np.arange(12, dtype=np.float32).reshape(2, 6) / 7,
    "norm.num_batches_tracked": np.array(41, np.int64),
    "half": np.array([0.5, -2], np.float16),
}

if __name__ == "__main__":
    checkpoints.save(Path(__file__).parent / f"v{SCHEMA_VERSION}.safetensors", ARRAYS, CARD)
