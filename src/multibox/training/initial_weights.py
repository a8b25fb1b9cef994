"""What a training starts from: ImageNet, nothing, or another detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from multibox import checkpoints
from multibox.backbones import imagenet_source
from multibox.card import DefaultBoxSpec, ModelCard
from multibox.data.box_fit import fit, fractions, suggest
from multibox.data.files import name_key
from multibox.data.samples import Sample
from multibox.errors import InputError
from multibox.ssd.model import SSD, build_ssd
from multibox.zoo import find_model, new_card


@dataclass(frozen=True, slots=True)
class InitialModel:
    """A model ready to be trained, its card, and what the user should know about it."""

    model: SSD
    card: ModelCard
    notes: tuple[str, ...]


DefaultBoxChoice = Literal["zoo", "voc", "coco", "suggested"]


def initial_model(
    model: str,
    names: Sequence[str],
    weights: str,
    image_size: tuple[int, int] | None,
    *,
    backbone: str | None = None,
    default_boxes: DefaultBoxChoice = "zoo",
    samples: Sequence[Sample] = (),
) -> InitialModel:
    """Build ``model`` for the classes ``names`` with ``weights``.

    ``weights``: "backbone" (ImageNet, with the mean and std those weights were trained with),
    "backbone:features" (VGG-16 with Caffe's convolutions and means), "none", or a checkpoint file.
    ``backbone`` ("timm:NAME") takes the place of the detector's own. ``default_boxes`` chooses one
    of the sets that the detector was published with; "zoo" is its own, or the checkpoint's, and
    "suggested" are made to fit the objects of ``samples`` (``data.box_fit.suggest``).

    Raises: InputError when the weights cannot be had or belong to another detector.
    """
    if weights == "none" or weights == "backbone" or weights.startswith("backbone:"):
        return _untrained(model, names, weights, image_size, backbone, default_boxes, samples)
    return _from_checkpoint(model, names, Path(weights), image_size, backbone, default_boxes)


def _untrained(
    model: str,
    names: Sequence[str],
    weights: str,
    image_size: tuple[int, int] | None,
    backbone: str | None,
    default_boxes: DefaultBoxChoice,
    samples: Sequence[Sample],
) -> InitialModel:
    """A detector with a backbone from ImageNet, or with random weights throughout."""
    choice = partial(
        new_card,
        model,
        names,
        image_size=image_size,
        backbone=backbone,
        box_set=None if default_boxes == "zoo" or default_boxes == "suggested" else default_boxes,
    )
    card = choice().model_copy(update={"origin": "random weights"})
    changes, notes = {}, []
    if default_boxes == "suggested":
        changes["default_boxes"], note = _suggested(card, samples)
        notes.append(note)
        card = card.model_copy(update=changes)
    if weights == "none":
        return InitialModel(build_ssd(card), card, tuple(notes))
    variant = weights.removeprefix("backbone")
    source = imagenet_source(card.architecture.backbone + variant, card.preprocessing.image_size)
    card = choice(normalisation=(source.mean, source.std)).model_copy(
        update={"origin": f"backbone from {source.origin}", **changes}
    )
    network = build_ssd(card)
    network.backbone.load_classifier(source.download())
    return InitialModel(network, card, tuple(notes))


def _suggested(card: ModelCard, samples: Sequence[Sample]) -> tuple[DefaultBoxSpec, str]:
    """Default boxes that fit the samples, and a line on how well."""
    boxes, labels = fractions(samples)
    if not len(boxes):
        raise InputError("no objects to fit default boxes to: leave out --default-boxes suggested")
    found = suggest(card.default_boxes, boxes, labels)
    if found == card.default_boxes:
        return found, "suggested default boxes: none fit these objects better than the detector's"
    old, new = fit(card.default_boxes, boxes), fit(found, boxes)
    return found, (
        f"suggested default boxes reach {new.recall:.1%} of {new.objects} objects at IoU 0.5, the "
        f"detector's own {old.recall:.1%}"
    )


def _from_checkpoint(
    model: str,
    names: Sequence[str],
    path: Path,
    image_size: tuple[int, int] | None,
    backbone: str | None,
    default_boxes: DefaultBoxChoice,
) -> InitialModel:
    if not path.exists():
        raise InputError(f"{path}: no such file; --weights takes backbone, none or a checkpoint")
    old = checkpoints.load(path)
    if old.card.model != model:
        raise InputError(
            f"{path} holds a {old.card.model}, not a {model}: train with --model {old.card.model}"
        )
    if backbone not in (None, old.card.architecture.backbone):
        raise InputError(
            f"{path} has the backbone {old.card.architecture.backbone}, not {backbone}: "
            "leave out --backbone, or start with --weights backbone"
        )
    if default_boxes != "zoo":
        raise InputError(
            f"{path} brings its own default boxes: leave out --default-boxes {default_boxes}"
        )
    card = old.card.model_copy(
        update={
            "names": tuple(names),
            "recipe": None,
            "metrics": {},
            "parity": None,
            "origin": f"fine-tuned from {path.name} ({', '.join(old.card.names)})",
        }
    )
    size = old.card.preprocessing.image_size
    if image_size not in (None, size):
        size = image_size
        card = card.model_copy(update=_at_size(old.card, size, path))
    network = build_ssd(card)
    arrays = {name: torch.from_numpy(array) for name, array in old.arrays.items()}
    notes = []
    old_keys = [name_key(name) for name in old.card.names]
    new_keys = [name_key(name) for name in card.names]
    if new_keys != old_keys:
        kept = [name for name in card.names if name_key(name) in old_keys]
        notes.append(
            f"the class heads change from {len(old.card.names)} classes "
            f"({', '.join(old.card.names)}) to {len(card.names)} ({', '.join(card.names)}): "
            + (f"{', '.join(kept)} and the background keep" if kept else "the background keeps")
            + " learned weights, the others start anew"
        )
    try:
        if new_keys != old_keys:
            arrays |= _resized_heads(network, arrays, old_keys, new_keys)
        network.load_state_dict(arrays)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path} does not fit a {model} of {size[0]}x{size[1]} pixels: {reason}"
        ) from error
    for name, buffer in network.named_buffers():
        # Learning goes by each batch's own figures: these would show in the evaluation only.
        if not bool(buffer.isfinite().all()):
            raise InputError(f"{path}: {name} has values that are not finite: the file is damaged")
    return InitialModel(network, card, tuple(notes))


def _at_size(card: ModelCard, size: tuple[int, int], path: Path) -> dict[str, object]:
    """What changes in a card with the size of its input.

    Raises: InputError when the same weights cannot serve a detector of that size, or when the
    default boxes are none that the zoo knows how to derive for it.
    """
    backbone = card.architecture.backbone if card.architecture.strides else None
    height, width = card.preprocessing.image_size
    for box_set in find_model(card.model).box_sets:
        derive = partial(new_card, card.model, card.names, backbone=backbone, box_set=box_set)
        same, other = derive(image_size=(height, width)), derive(image_size=size)
        if (
            other.architecture == card.architecture
            and same.default_boxes.levels == card.default_boxes.levels
        ):
            return {
                "preprocessing": card.preprocessing.model_copy(update={"image_size": size}),
                "default_boxes": card.default_boxes.model_copy(
                    update={"image_size": size, "levels": other.default_boxes.levels}
                ),
            }
    raise InputError(
        f"{path} keeps its input of {height}x{width} pixels: its layers or default boxes are not "
        f"those of a {card.model} of {size[0]}x{size[1]}: leave out --image-size"
    )


def _resized_heads(
    network: SSD,
    arrays: dict[str, Tensor],
    old_names: Sequence[str],
    new_names: Sequence[str],
) -> dict[str, Tensor]:
    """Class-head weights for the new names: rows of known names copied, the rest as initialised.

    Names are compared as they are: give all of them as ``name_key`` does.
    """
    # Row 0 of each default box is the background; it exists on both sides.
    rows = [(0, 0)] + [
        (new + 1, old_names.index(name) + 1)
        for new, name in enumerate(new_names)
        if name in old_names
    ]
    resized = {}
    for index, head in enumerate(network.heads.classes):
        # The last layer of a separable head, or the plain head itself, gives the scores.
        last = f"{len(head) - 1}." if isinstance(head, nn.Sequential) else ""
        for kind in ("weight", "bias"):
            name = f"heads.classes.{index}.{last}{kind}"
            by_box = _by_box(network.state_dict()[name].clone(), len(new_names) + 1)
            old_by_box = _by_box(arrays[name], len(old_names) + 1)
            for new_row, old_row in rows:
                by_box[:, new_row] = old_by_box[:, old_row]
            resized[name] = by_box.flatten(0, 1)
    return resized


def _by_box(head: Tensor, scores: int) -> Tensor:
    """``[boxes * scores, ...]`` to ``[boxes, scores, ...]``."""
    return head.reshape(-1, scores, *head.shape[1:])
