"""The figures of one epoch: losses, speed, and time spent waiting for pictures."""

import math
import time

import torch
from torch import Tensor

from multibox.errors import MultiboxError

_SECONDS_BETWEEN_READINGS = 1.0


class EpochFigures:
    """Sums over the steps of one epoch.

    Losses stay on the device until they are to be shown: reading them at every step would make an
    accelerator wait. They are added up one by one all the same, so that the means do not depend on
    when they were read.
    """

    def __init__(self, saved: dict[str, float]) -> None:
        self._sums = {"steps": 0.0, "confidence": 0.0, "localisation": 0.0} | saved
        self._unread: list[Tensor] = []
        self._pictures = 0
        self._waited = 0.0
        self._began = self._read_at = time.monotonic()

    def add(self, losses: Tensor, *, pictures: int, waited: float) -> None:
        """Count one step: its losses ``[2]`` and pictures, and the seconds it waited for them."""
        self._unread.append(losses)
        self._sums["steps"] += 1
        self._pictures += pictures
        self._waited += waited

    def due(self) -> bool:
        """Whether the last reading is old enough for another."""
        return time.monotonic() - self._read_at >= _SECONDS_BETWEEN_READINGS

    def read(self, where: str) -> None:
        """Fetch the losses from the device.

        Raises: MultiboxError when they are no longer finite numbers.
        """
        unread = torch.stack(self._unread).tolist() if self._unread else []
        for confidence, localisation in unread:
            self._sums["confidence"] += confidence
            self._sums["localisation"] += localisation
            if not math.isfinite(confidence + localisation):
                raise MultiboxError(
                    f"the loss is no longer a number ({where}): confidence {confidence}, "
                    f"localisation {localisation}; a lower --learning-rate usually helps"
                )
        self._unread.clear()
        self._read_at = time.monotonic()

    @property
    def loss(self) -> float:
        """Mean over the epoch's steps so far."""
        steps = max(self._sums["steps"], 1)
        return (self._sums["confidence"] + self._sums["localisation"]) / steps

    @property
    def pictures_per_second(self) -> float:
        """On this rank, since the epoch or the process began."""
        return self._pictures / max(time.monotonic() - self._began, 1e-9)

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for pictures, 0..1."""
        return self._waited / max(time.monotonic() - self._began, 1e-9)

    def sums(self) -> dict[str, float]:
        """What a resumed run needs to finish the epoch's means."""
        self.read("saving")
        return dict(self._sums)

    def row(self) -> dict[str, float | int | None]:
        """The epoch's line of metrics.csv; the mAP is filled in when there is one."""
        steps = max(self._sums["steps"], 1)
        return {
            "loss": self.loss,
            "confidence_loss": self._sums["confidence"] / steps,
            "localisation_loss": self._sums["localisation"] / steps,
            "map": None,
            "pictures_per_second": round(self.pictures_per_second, 2),
            "waiting": round(self.waiting, 4),
        }
