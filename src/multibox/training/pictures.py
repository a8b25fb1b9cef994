"""The training pictures as a recipe has them shown."""

import os
from collections.abc import Sequence

from multibox.card import Preprocessing
from multibox.data.augmentation import INTERPOLATIONS, Augmentation
from multibox.data.batches import ExtraAugmentation, TrainingPictures
from multibox.data.file_cache import FileCache
from multibox.data.mosaic import Mosaic
from multibox.data.photometric import Photometric
from multibox.data.samples import Sample
from multibox.training.recipes import Recipe


def training_pictures(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    recipe: Recipe,
    *,
    seed: int,
    extra: ExtraAugmentation | None = None,
) -> TrainingPictures:
    """``samples`` in the size of the network's input, augmented and cached as ``recipe`` says.

    ``extra`` is an augmentation of the caller's, which comes first.
    """
    return TrainingPictures(
        samples,
        preprocessing.image_size,
        augmentation=augmentation_of(recipe, preprocessing) if recipe.augment else None,
        mosaic=_mosaic(recipe) if recipe.augment else None,
        extra=extra,
        train_difficult=recipe.train_difficult,
        seed=seed,
        cache=_file_cache(recipe, len(samples)),
    )


def augmentation_of(recipe: Recipe, preprocessing: Preprocessing) -> Augmentation:
    """The keys of ``recipe`` that change pictures; what is around them is the network's mean."""
    red, green, blue = preprocessing.mean
    return Augmentation(
        preprocessing.image_size,
        (round(red), round(green), round(blue)),
        photometric=Photometric(hue_wraps=recipe.hue_wraps),
        expand_probability=recipe.expand_probability,
        expand_ratio=recipe.expand_ratio,
        crop_sampler=recipe.crop_sampler,
        interpolations=INTERPOLATIONS if recipe.random_interpolation else ("linear",),
        exact=recipe.exact_pixels,
    )


def _mosaic(recipe: Recipe) -> Mosaic | None:
    if not recipe.mosaic_probability:
        return None
    assert recipe.epochs is not None
    return Mosaic(recipe.mosaic_probability, round(recipe.mosaic_until * recipe.epochs))


def _file_cache(recipe: Recipe, files: int) -> FileCache | None:
    """This rank's part of the machine's memory for encoded files."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    size = recipe.cache_files * 1_000_000 // ranks_here
    return FileCache(files, size) if size else None
