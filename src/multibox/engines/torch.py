"""PyTorch as an engine: runs a checkpoint, or the weights of a training while it goes on.

On a GPU network, decoding and suppression are queued as one piece, a CUDA graph for each batch
size; a batch goes up and its detections come down, and nothing else crosses.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
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
from multibox.ssd.fixed_shape_postprocess import FixedShapeDetections, postprocess_fixed_shape
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
        # Modules of from_module may be replaced or trained at any time: those are never recorded.
        self._records = False
        self._detect: Callable[[Tensor], tuple[Tensor, ...]] = self._queued
        self._one_at_a_time = threading.Lock()

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
        engine._records = engine._device.type == "cuda"
        if compile:
            engine._detect = compiled_if_possible(engine._queued)
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
        return self._complete(*outputs, self._fixed_shape(*outputs))

    @torch.inference_mode()
    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        """Detect in ``images [b, h, w, 3]``: RGB, of the size that the card states."""
        if not self._records:
            return super().__call__(images)
        self._check(images)
        with self._one_at_a_time:
            logits, offsets, *rest = self._captured(_pinned(images))
            return self._complete(logits, offsets, _joined(rest))

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
        with self._one_at_a_time:
            if not self._records:
                with _evaluation_mode(self.module):
                    _, _, *rest = self._detect(images)
                return _joined(rest)
            _, _, *rest = self._captured(images)
            # The next call writes over what the graph gave.
            return _joined([each.clone() for each in rest])

    def _queued(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs and detections, in operations that wait for nothing."""
        logits, offsets = self.module(resize_on_device(images, self.card.preprocessing))
        found, exact = self._fixed_shape(logits, offsets)
        return logits, offsets, *found, exact

    @cached_property
    def _captured(self) -> Captured:
        return Captured(self._detect, self._device, CudaCapture())

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

    def _complete(
        self, logits: Tensor, offsets: Tensor, detections: FixedShapeDetections
    ) -> RawDetections:
        """What was ``found``, with the pictures done again for which that was not enough."""
        packed = _pack(detections).cpu().numpy()
        raw, exact = _unpack(packed, self.card.postprocessing.keep)
        for i in np.flatnonzero(~exact):
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


def _joined(parts: list[Tensor]) -> FixedShapeDetections:
    *found, exact = parts
    return FixedShapeDetections(BatchDetections(*found), exact)


def _pack(detections: FixedShapeDetections) -> Tensor:
    """All of it as one array of 32-bit numbers ``[b, 2 + 6 * keep]``: one copy instead of five."""
    found, exact = detections
    columns = (
        found.num,
        exact[:, None].int(),
        found.classes,
        found.scores.view(torch.int32),
        found.boxes.flatten(1).view(torch.int32),
    )
    return torch.cat(columns, dim=1)


def _unpack(
    packed: npt.NDArray[np.int32], keep: int
) -> tuple[RawDetections, npt.NDArray[np.bool_]]:
    num, exact, classes, scores, boxes = np.split(packed, [1, 2, 2 + keep, 2 + 2 * keep], axis=1)
    raw = RawDetections(
        num=num[:, 0].copy(),
        boxes=boxes.copy().view(np.float32).reshape(len(packed), keep, 4),
        scores=scores.copy().view(np.float32),
        classes=classes.copy(),
    )
    return raw, exact[:, 0].astype(np.bool_)


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
