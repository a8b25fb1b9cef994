"""PyTorch as an engine: runs a checkpoint, or the weights of a training while it goes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from multibox.card import ModelCard
from multibox.checkpoints import Checkpoint
from multibox.default_boxes import default_boxes
from multibox.engines.base import Engine, RawDetections
from multibox.errors import InputError
from multibox.ssd.model import SSD, build_ssd
from multibox.ssd.postprocess import postprocess


class TorchEngine(Engine):
    """Runs a network that gives SSD's raw outputs, and turns these into detections."""

    name = "torch"

    def __init__(self, module: nn.Module, card: ModelCard) -> None:
        super().__init__(card)
        self.module = module
        self._device = next(module.parameters()).device
        self._default_boxes = torch.from_numpy(default_boxes(card.default_boxes)).to(self._device)

    @classmethod
    def from_module(cls, module: nn.Module, card: ModelCard) -> Self:
        """An engine over a module that is in use elsewhere too, in training for one.

        ``module`` is an SSD, or one wrapped or compiled. Each call runs it in evaluation mode and
        leaves every submodule's mode as it was; its device and memory layout are not touched, and
        weights that have changed are seen at once.
        """
        return cls(module, card)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "auto", threads: int | None = None
    ) -> Self:
        """Build the model that the card describes, and load the weights into it.

        ``device`` is one of torch's names; "auto" takes a GPU when there is one. ``threads`` is
        for the whole process, as PyTorch's threads are; None leaves them as they are.

        Raises: InputError when the arrays do not fit the card.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        # On a CPU channels-last convolutions sum in another order than everybody else's networks,
        # which costs deep ones a digit or two and gains little: whoever wants speed there exports.
        build = SSD if device == "cpu" else build_ssd
        model = build(checkpoint.card)
        _load_arrays(model, checkpoint)
        return cls(model.to(device).eval(), checkpoint.card)

    @torch.inference_mode()
    def network(self, images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """The network alone: class logits ``[b, n, classes + 1]``, box offsets ``[b, n, 4]``."""
        self._check(images)
        batch = torch.from_numpy(images).to(self._device)
        # A CPU's convolutions round differently for other batch sizes and gain little from them:
        # one by one, a picture's detections do not depend on what else is looked at.
        parts = torch.split(batch, 1) if self._device.type == "cpu" else (batch,)
        with _evaluation_mode(self.module):
            outputs = [self.module(part) for part in parts]
        logits, offsets = (torch.cat(column) for column in zip(*outputs, strict=True))
        return logits, offsets

    @torch.inference_mode()
    def detections(self, outputs: tuple[Tensor, Tensor]) -> RawDetections:
        """The post-processing alone."""
        logits, offsets = outputs
        found = postprocess(
            logits,
            offsets,
            self._default_boxes,
            self.card.default_boxes.variances,
            self.card.postprocessing,
        )
        return RawDetections(
            num=found.num[:, 0].cpu().numpy(),
            boxes=found.boxes.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            classes=found.classes.cpu().numpy(),
        )


def _load_arrays(module: nn.Module, checkpoint: Checkpoint) -> None:
    wanted: Mapping[str, Any] = module.state_dict()
    given = checkpoint.arrays
    for what, names in (
        ("lacks", sorted(wanted.keys() - given.keys())),
        ("has beyond its card", sorted(given.keys() - wanted.keys())),
        (
            "has in another shape than its card says",
            [n for n in wanted if n in given and tuple(wanted[n].shape) != given[n].shape],
        ),
    ):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"{checkpoint.path}: the file {what} the array {names[0]!r}{others}: "
                "its weights and its card are not of one model; copy it again or train anew"
            )
    module.load_state_dict({name: torch.from_numpy(array) for name, array in given.items()})


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    # Mode by mode, because module.train() afterwards would also thaw what was frozen on purpose.
    in_training = [part for part in module.modules() if part.training]
    for part in in_training:
        part.training = False
    try:
        yield
    finally:
        for part in in_training:
            part.training = True
