"""Which pictures make up which step, and each picture made ready for the network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.boxes import Boxes
from multibox.data.augmentation import Augmentation, plain_resize
from multibox.data.file_cache import FileCache
from multibox.data.mosaic import Mosaic, Tile, compose
from multibox.data.samples import Sample
from multibox.data.seeding import sample_rng
from multibox.imaging import EncodedPicture, Image, read_bytes, read_encoded, read_image

ExtraAugmentation = Callable[
    [npt.NDArray[np.uint8], Sample, np.random.Generator], tuple[npt.NDArray[np.uint8], Sample]
]

# Random streams beside those of the samples, which are numbered from 0.
_ORDER_STREAM = 2**31
_MOSAIC_STREAMS = 2**32


class Key(NamedTuple):
    """One presentation of one picture: it fixes every random number that shapes it."""

    epoch: int
    picture: int


class TrainingPicture(NamedTuple):
    """Network input ``[h, w, 3]`` uint8, boxes ``[g, 4]`` as fractions of it, labels ``[g]``."""

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def epoch_batches(pictures: int, batch_size: int, *, seed: int, epoch: int) -> list[list[Key]]:
    """The batches of one epoch: a seeded shuffle cut into whole batches.

    The rest that does not fill a batch is left for other epochs, which shuffle anew; a data set
    smaller than one batch makes a single batch of all there is.
    """
    order = sample_rng(seed, epoch, _ORDER_STREAM).permutation(pictures).tolist()
    if pictures <= batch_size:
        return [[Key(epoch, picture) for picture in order]]
    last = pictures - batch_size
    return [
        [Key(epoch, picture) for picture in order[start : start + batch_size]]
        for start in range(0, last + 1, batch_size)
    ]


class TrainingPictures:
    """Samples as the network sees them: ``pictures[Key(epoch, picture)]`` is always the same."""

    def __init__(
        self,
        samples: Sequence[Sample],
        size: tuple[int, int],
        *,
        augmentation: Augmentation | None,
        mosaic: Mosaic | None = None,
        extra: ExtraAugmentation | None = None,
        train_difficult: bool = True,
        seed: int = 0,
        cache: FileCache | None = None,
    ) -> None:
        self.samples = samples
        self.size = size
        """Height and width of the network's input."""
        self._augmentation = augmentation
        self._mosaic = mosaic
        self._extra = extra
        self._train_difficult = train_difficult
        self._seed = seed
        self._cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> TrainingPicture:
        return self.write(key)

    def write(self, key: Key, out: Image | None = None) -> TrainingPicture:
        """The picture of ``key``, written to ``out``, uint8 ``[h, w, 3]``, where that is given."""
        image, sample = self.prepared(key, out)
        height, width = self.size
        scale = np.array([width, height, width, height], np.float32)
        boxes: Boxes = sample.boxes / scale
        # An object without area, or outside the picture, cannot be coded.
        coded = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
        return TrainingPicture(image, boxes[coded], sample.labels[coded])

    def prepared(self, key: Key, out: Image | None = None) -> tuple[Image, Sample]:
        """The picture and its objects in the frame of the network's input."""
        rng = sample_rng(self._seed, key.epoch, key.picture)
        if tiles := self._tiles(key):
            canvas = np.empty((*self.size, 3), np.uint8) if out is None else out
            return compose([(tile, *self._tile(tile, rng)) for tile in tiles], canvas)
        return self._one(key.picture, rng, self._augmentation, self.size, out)

    def shown(self, key: Key) -> list[int]:
        """The numbers of the samples in this picture: one, or the four of a mosaic."""
        return [tile.picture for tile in self._tiles(key)] or [key.picture]

    def _tiles(self, key: Key) -> tuple[Tile, ...]:
        if self._mosaic is None:
            return ()
        # From a stream of its own: pictures that are no mosaics are the same as without them.
        chance = sample_rng(self._seed, key.epoch, _MOSAIC_STREAMS + key.picture)
        return self._mosaic.tiles(key.epoch, key.picture, len(self), self.size, chance)

    def _tile(self, tile: Tile, rng: np.random.Generator) -> tuple[Image, Sample]:
        """Not expanded: in a tile it is small enough."""
        augmentation = self._augmentation
        if augmentation is not None:
            augmentation = replace(augmentation, size=tile.size, expand_probability=0)
        return self._one(tile.picture, rng, augmentation, tile.size)

    def _one(
        self,
        number: int,
        rng: np.random.Generator,
        augmentation: Augmentation | None,
        size: tuple[int, int],
        out: Image | None = None,
    ) -> tuple[Image, Sample]:
        """One picture, augmented to ``size``."""
        sample = self.samples[number]
        # A crowd's box holds many objects; learning it as one would teach a wrong size.
        learned = ~sample.crowd
        if not self._train_difficult:
            learned &= ~sample.difficult
        sample = sample.select(learned)
        picture = self._open(number)
        if isinstance(picture, EncodedPicture):
            if augmentation is not None and self._extra is None:
                # Its size is enough to decide by; then no more is decoded than will be seen.
                decision = augmentation.decide(*picture.size, sample, rng)
                placement = augmentation.plan(decision, picture)
                image = picture.decode(placement.reduction)
                return augmentation.apply(decision, image, sample, placement=placement, out=out)
            picture = picture.decode()
        if self._extra is not None:
            picture, sample = self._extra(picture, sample, rng)
        if augmentation is None:
            return plain_resize(picture, sample, size, out=out)
        return augmentation(picture, sample, rng, out=out)

    def _open(self, number: int) -> EncodedPicture | Image:
        """A JPEG not yet decoded, anything else as pixels."""
        source = self.samples[number].image
        if not isinstance(source, Path):
            return read_image(source)
        data = read_bytes(source) if self._cache is None else self._cache.read(number, source)
        encoded = read_encoded(data, str(source))
        # Of other formats the header is not always what decoding gives.
        return encoded if encoded.header.format == "jpeg" else encoded.decode()


def share_of_rank(batch: Sequence[Key], rank: int, ranks: int) -> list[Key]:
    """The part of a step's pictures that one of several processes computes."""
    return list(batch[rank::ranks])


def remaining_batches(
    pictures: int, batch_size: int, *, seed: int, epochs: int, steps_done: int
) -> Iterator[list[Key]]:
    """The batches of every step that is still to be done, in the order of the whole run."""
    first, done = divmod(steps_done, steps_per_epoch(pictures, batch_size))
    for epoch in range(first, epochs):
        batches = epoch_batches(pictures, batch_size, seed=seed, epoch=epoch)
        yield from batches[done:] if epoch == first else batches


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """How many batches :func:`epoch_batches` makes."""
    return max(1, pictures // batch_size)
