"""PyTorch as an engine: runs a checkpoint, or the weights of a training while it goes on.

On a GPU network, decoding and suppression are queued as one piece, a CUDA graph for each of a few
batch sizes; a batch goes up and its detections come down, and nothing else crosses.
"""

from collections.abc import Callable, Iterator, Mapping
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
from multibox.engines.graph import Precision
from multibox.engines.torch_fast import compiled_if_possible, to_half
from multibox.engines.torch_graphs import Captured, CudaCapture
from multibox.engines.torch_resize import resize_on_device
from multibox.errors import InputError
from multibox.ssd.fixed_shape_postprocess import (
    FixedShapeDetections,
    pack,
    postprocess_fixed_shape,
    unpack,
)
from multibox.ssd.model import SSD, build_ssd
from multibox.ssd.postprocess import BatchDetections, postprocess

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MORE_CANDIDATES, _MORE_ROUNDS = 4096, 128


class TorchEngine(Engine):
    """Runs a network that gives SSD's raw outputs, and turns these into detections."""

    name = "torch"

    def __init__(self, module: nn.Module, card: ModelCard) -> None:
        super().__init__(card)
        self.module = module
        self._device = next(module.parameters()).device
        self._default_boxes = torch.from_numpy(default_boxes(card.default_boxes)).to(self._device)
        self._variances = torch.tensor(card.default_boxes.variances, device=self._device)
        self._detect: Callable[[Tensor], tuple[Tensor, ...]] = self._queued
        # Modules of from_module may be replaced or trained at any time: those are never recorded.
        self._captured: Captured | None = None

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
        cls,
        checkpoint: Checkpoint,
        device: str = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        *,
        compile: bool = False,
    ) -> Self:
        """Build the model that the card describes, and load the weights into it.

        ``device`` is one of torch's names; "auto" takes a GPU when there is one. ``threads`` is
        for the whole process, as PyTorch's threads are; None leaves them as they are. In
        ``precision`` "bf16" or, on a GPU, "fp16" the network computes in half as many bits, without
        its norms, which are folded into the convolutions. ``compile`` lets ``torch.compile`` merge
        what lies between the convolutions: faster from the first call of each batch size on, which
        then takes a minute.

        Raises: InputError when the arrays do not fit the card, or the device not the precision.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if precision == "fp16" and device == "cpu":
            raise InputError("--precision fp16: needs a GPU: use bf16 or fp32 on processors")
        # On a CPU channels-last convolutions sum in another order than everybody else's networks,
        # which costs deep ones a digit or two and gains little: whoever wants speed there exports.
        build = SSD if device == "cpu" else build_ssd
        model = build(checkpoint.card)
        _load_arrays(model, checkpoint)
        model.eval()
        if precision != "fp32":
            to_half(model, _HALF[precision])
        engine = cls(model.to(device), checkpoint.card)
        if compile:
            engine._detect = compiled_if_possible(engine._queued)
        if engine._device.type == "cuda":
            capture = CudaCapture(engine._device)
            engine._captured = Captured(engine._detect, engine._device, capture)
        return engine

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
        if self._device.type == "cpu":
            # Class by class: several times as fast there as comparing every two candidates.
            return _to_numpy(self._class_by_class(*outputs))
        return self._complete(*outputs, pack(self._fixed_shape(*outputs)))

    @torch.inference_mode()
    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        """Detect in ``images [b, h, w, 3]``: RGB, of the size that the card states."""
        if self._captured is None:
            return super().__call__(images)
        self._check(images)
        return self._captured(_pinned(images), lambda outputs: self._complete(*outputs))

    @torch.inference_mode()
    def detect_on_device(self, images: Tensor) -> FixedShapeDetections:
        """Detect in pictures that are on the device, and leave the detections there.

        ``images [b, H, W, 3]`` are uint8, upright RGB, of any size: another one than the card's is
        resized there (``engines.torch_resize``). Nothing is waited for: the call returns while the
        device still works. Where ``exact`` turns out False call the engine with that picture.

        Raises: InputError for tensors of another kind or device.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(
                f"detect_on_device takes uint8 RGB [batch, height, width, 3], not {images.dtype} "
                f"{list(images.shape)}"
            )
        if images.device != self._default_boxes.device or not len(images):
            raise InputError(
                f"detect_on_device takes pictures on {self._default_boxes.device}, at least one, "
                f"not {len(images)} on {images.device}"
            )
        resized = resize_on_device(images, self.card.preprocessing)
        if self._captured is None:
            with _evaluation_mode(self.module):
                _, _, packed = self._detect(resized)
        else:
            packed = self._captured(resized, lambda outputs: outputs[2].clone())
        return unpack(packed, self.card.postprocessing.keep)

    def _queued(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw outputs and packed detections, in operations that wait for nothing."""
        logits, offsets = self.module(images)
        return logits, offsets, pack(self._fixed_shape(logits, offsets))

    def _fixed_shape(self, logits: Tensor, offsets: Tensor, **more: int) -> FixedShapeDetections:
        return postprocess_fixed_shape(
            logits,
            offsets,
            self._default_boxes,
            self._variances,
            self.card.postprocessing,
            **more,
        )

    def _class_by_class(self, logits: Tensor, offsets: Tensor) -> BatchDetections:
        return postprocess(
            logits,
            offsets,
            self._default_boxes,
            self.card.default_boxes.variances,
            self.card.postprocessing,
        )

    def _complete(self, logits: Tensor, offsets: Tensor, packed: Tensor) -> RawDetections:
        """What was found, with the pictures done again for which that was not enough."""
        found, exact = unpack(packed.to("cpu", copy=True), self.card.postprocessing.keep)
        raw = _to_numpy(found)
        for i in np.flatnonzero(~exact.numpy()):
            one = logits[i : i + 1], offsets[i : i + 1]
            again, enough = self._fixed_shape(
                *one, candidates=_MORE_CANDIDATES, rounds=_MORE_ROUNDS
            )
            for whole, part in zip(
                raw, _to_numpy(again if enough else self._class_by_class(*one)), strict=True
            ):
                whole[i] = part[0]
        return raw


def _pinned(images: npt.NDArray[np.uint8]) -> Tensor:
    """A copy in memory that the device reads by itself, while Python goes on."""
    copy = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
    return copy.copy_(torch.from_numpy(images))


def _to_numpy(found: BatchDetections) -> RawDetections:
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
