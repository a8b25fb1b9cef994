"""Trainings of a second: the values that make them so, and what starts one."""

from typing import Any, Protocol

from multibox.training.train import TrainResult

# 9 pictures to train on, in batches of 4: two steps an epoch, and one picture left over.
OPTIONS: dict[str, Any] = {
    "model": "tiny_plain",
    "weights": "none",
    "batch_size": 4,
    "epochs": 3,
    "workers": 0,
    "precision": "fp32",
    "warmup_steps": 0,
}


class Train(Protocol):
    def __call__(self, **changes: Any) -> TrainResult: ...
