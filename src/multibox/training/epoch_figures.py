"""The figures of one epoch: losses, speed, and time spent waiting for pictures."""

import time


class EpochFigures:
    """Sums over the steps of one epoch; ``saved`` are those of a run that goes on within it."""

    def __init__(self, saved: dict[str, float]) -> None:
        self._sums = {"steps": 0.0, "confidence": 0.0, "localisation": 0.0} | saved
        self._pictures = 0
        self._waited = 0.0
        self._began = time.monotonic()

    def add(self, confidence: float, localisation: float, *, pictures: int, waited: float) -> None:
        """Count one step: its losses and pictures, and the seconds it waited for them."""
        self._sums["steps"] += 1
        self._sums["confidence"] += confidence
        self._sums["localisation"] += localisation
        self._pictures += pictures
        self._waited += waited

    @property
    def loss(self) -> float:
        """Mean over the epoch's steps so far."""
        return (self._sums["confidence"] + self._sums["localisation"]) / self._steps

    @property
    def pictures_per_second(self) -> float:
        """On this rank, since the epoch or the process began."""
        return self._pictures / self._seconds

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for pictures, 0..1."""
        return self._waited / self._seconds

    def sums(self) -> dict[str, float]:
        """What a resumed run needs to finish the epoch's means."""
        return dict(self._sums)

    def row(self) -> dict[str, float | int | None]:
        """The epoch's line of metrics.csv; the mAP is filled in when there is one."""
        return {
            "loss": self.loss,
            "confidence_loss": self._sums["confidence"] / self._steps,
            "localisation_loss": self._sums["localisation"] / self._steps,
            "map": None,
            "pictures_per_second": round(self.pictures_per_second, 2),
            "waiting": round(self.waiting, 4),
        }

    @property
    def _steps(self) -> float:
        return max(self._sums["steps"], 1)

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)
