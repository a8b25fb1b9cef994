"""Batches of prepared pictures as tensors, prepared by other processes while the network works."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from multibox.data.batches import Key, TrainingPicture, TrainingPictures
from multibox.errors import MultiboxError


class Batch(NamedTuple):
    """``images [b, h, w, 3]`` uint8; for each picture ``boxes[i] [g, 4]`` and ``labels[i] [g]``."""

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]

    def portion(self, index: int, of: int) -> "Batch":
        """One of several equal parts, as even as the number of pictures allows."""
        cuts = [len(self.images) * i // of for i in range(of + 1)]
        part = slice(cuts[index], cuts[index + 1])
        return Batch(self.images[part], self.boxes[part], self.labels[part])

    def to(self, device: torch.device) -> "Batch":
        """The same batch on ``device``."""
        return Batch(
            self.images.to(device, non_blocking=True),
            [boxes.to(device, non_blocking=True) for boxes in self.boxes],
            [labels.to(device, non_blocking=True) for labels in self.labels],
        )


def collate(pictures: Sequence[TrainingPicture]) -> Batch:
    """Stack pictures of one size."""
    return Batch(
        torch.from_numpy(np.stack([picture.image for picture in pictures])),
        [torch.from_numpy(picture.boxes) for picture in pictures],
        [torch.from_numpy(picture.labels) for picture in pictures],
    )


def default_workers() -> int:
    """Enough processes to keep the network fed, leaving most cores to it where there are few."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(16, max(1, (cores or 1) // 2 // ranks_here))


def load_batches(
    pictures: TrainingPictures,
    keys: Iterator[list[Key]],
    *,
    workers: int,
    pinned: bool,
) -> Generator[Batch, None, None]:
    """Batches in the order of ``keys``; the pictures are the same with any number of workers.

    Raises: ImageError when the turn comes to a picture that cannot be read.
    """
    batches: DataLoader[Batch | MultiboxError] = DataLoader(
        _Prepared(pictures),  # type: ignore[arg-type]
        batch_sampler=_InOrder(keys),
        collate_fn=_collate_or_error,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
    )
    for batch in batches:
        if isinstance(batch, MultiboxError):
            raise batch
        yield batch


class _Prepared:
    """Pictures, or why they could not be prepared: a DataLoader buries an error in tracebacks."""

    def __init__(self, pictures: TrainingPictures) -> None:
        self._pictures = pictures

    def __getitem__(self, key: Key) -> TrainingPicture | MultiboxError:
        try:
            return self._pictures[key]
        except MultiboxError as error:
            return error


def _collate_or_error(parts: Sequence[TrainingPicture | MultiboxError]) -> Batch | MultiboxError:
    pictures = []
    for part in parts:
        if isinstance(part, MultiboxError):
            return part
        pictures.append(part)
    return collate(pictures)


class _InOrder:
    """A batch sampler over keys that are already in order."""

    def __init__(self, keys: Iterator[list[Key]]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[list[Key]]:
        return self._keys


def _prepare_worker(_: int) -> None:
    # Ctrl-C, and often SIGTERM, reaches the whole process group: the main process ends the workers,
    # after saving. To end one that hangs it sends SIGTERM again.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _ignore_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
