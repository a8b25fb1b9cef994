"""``multibox.train``: from a data set to a run folder with the best weights."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from multibox import __version__
from multibox.data import problems_summary
from multibox.data.batches import ExtraAugmentation, steps_per_epoch
from multibox.data.enforcement import without_tiny
from multibox.data.merging import JOIN, DataPath, data_paths, display_name, is_data_path
from multibox.data.policies import DEFAULT_POLICIES, Policies
from multibox.data.samples import DataSet, Sample
from multibox.errors import InputError
from multibox.ssd.model import build_ssd
from multibox.training.data_splits import open_parts
from multibox.training.freed_memory import freed_memory_kept
from multibox.training.initial_weights import DefaultBoxChoice, InitialModel, initial_model
from multibox.training.loop import fit
from multibox.training.pictures import training_pictures
from multibox.training.processes import check_portions, is_normalised, prepare_accelerator
from multibox.training.ranks import Ranks, lost_ranks_explained
from multibox.training.recipe_cards import RecipeCard, choose, differences
from multibox.training.recipes import Recipe, default_epochs, default_rates
from multibox.training.run import Run
from multibox.training.run_folder import claim_folder
from multibox.training.run_lock import locked
from multibox.training.sheets import draw_training_samples
from multibox.training.step import computes_faster_in_bf16


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a run lies, its best weights, their validation mAP, and one row an epoch."""

    folder: Path
    best: Path
    best_map: float | None
    history: tuple[dict[str, float | int | None], ...]


def _say_nothing(_: str) -> None:
    pass


@lost_ranks_explained()
def train(
    data: DataPath | DataSet | Sequence[Sample],
    *,
    model: str | None = None,
    names: Sequence[str] | None = None,
    validation: DataSet | Sequence[Sample] | None = None,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    backbone: str | None = None,
    default_boxes: DefaultBoxChoice = "zoo",
    policies: Policies = DEFAULT_POLICIES,
    out: str | Path | None = None,
    recipe: str | Recipe | RecipeCard = "modern",
    seed: int = 0,
    resume: bool = False,
    augmentation: ExtraAugmentation | None = None,
    report: Callable[[str], None] = _say_nothing,
    quiet: bool = True,
    **options: Any,
) -> TrainResult:
    """Train a detector and leave everything about it in a run folder.

    ``data`` is a folder or file in any supported layout, or several that are merged: a sequence of
    paths, or one text that joins them with "+". Or it is samples: a ``DataSet``, or a sequence
    together with ``names``; then ``validation`` takes the samples to choose the best weights by.
    ``classes`` trains on some of the data's classes. ``weights`` is "backbone" (ImageNet), "none"
    or a checkpoint. ``image_size`` is (height, width). ``backbone`` ("timm:NAME") takes the place
    of the detector's own, and ``default_boxes`` chooses between the sizes it was published with,
    or takes those "suggested" by the training objects. ``policies`` say what is done about faults
    in data that lies in files.
    ``recipe`` may be a recipe card, which brings its model, weights and default boxes, and with
    which the data is compared. ``augmentation`` is an extra one, called before the recipe's own
    with the picture, its sample and a random generator.
    ``report`` gets lines for the user before the first step, on the first rank. ``options``
    replace keys of ``recipe``.

    Raises: InputError when something about the call or the data is wrong, Interrupted when a
    signal ended the run, which ``resume`` with the same arguments continues.
    """
    choice = choose(recipe, model, weights, default_boxes, options)
    chosen, model, weights = choice.recipe, choice.model, choice.weights
    default_boxes = choice.default_boxes
    classes = classes or choice.classes
    places = data_paths(data) if is_data_path(data) else ()
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed} is out of range: take a number from 0 to {2**32 - 1}")
    accelerator = prepare_accelerator(chosen)
    ranks = Ranks(accelerator)
    if not ranks.is_first:
        report = _say_nothing
    training, held_out = open_parts(data, names, validation, classes, choice.splits, policies)
    parts = [part for part in (training, held_out) if part is not None]
    # What holds for the whole data set is a note of both parts.
    for line in dict.fromkeys(
        line for part in parts for line in (*part.notes, *problems_summary(part))
    ):
        report(line)
    if choice.card is not None:
        card = choice.card
        for line in (*card.expectations(), *differences(card, training, held_out)):
            report(line)
    set_seed(seed)
    begin = initial_model(
        model,
        training.names,
        str(weights),
        image_size,
        backbone=backbone,
        default_boxes=default_boxes,
        samples=training.samples,
    )
    training = without_tiny(training, begin.card.preprocessing.image_size, policies)
    for line in begin.notes:
        report(line)
    if chosen.truncate_sizes and str(weights).partition(":")[0] in ("none", "backbone"):
        begin = _with_truncated_sizes(begin)
    if chosen.freeze_early_layers and str(weights) != "none":
        begin.model.backbone.freeze_early_layers()
    check_portions(begin.model, chosen, len(training), accelerator)

    chosen = _settled(
        chosen, begin.model, len(training), accelerator, pretrained=str(weights) != "none"
    )
    # Chosen by one rank for all, which alone looks into the folder: the others need not see it.
    folder = ranks.on_first(
        lambda: _default_folder(places, model, resume=resume) if out is None else Path(out)
    )
    config = {
        "multibox": __version__,
        "data": JOIN.join(str(place.resolve()) for place in places) or "samples",
        "model": model,
        "backbone": begin.card.architecture.backbone,
        "default_boxes": default_boxes,
        "weights": str(Path(weights).resolve()) if Path(weights).is_file() else str(weights),
        "classes": list(training.names),
        **({"policies": dict(policies.chosen)} if policies.chosen else {}),
        "image_size": list(begin.card.preprocessing.image_size),
        "pictures": len(training),
        "seed": seed,
        "recipe": chosen.model_dump(),
    }
    pictures = training_pictures(
        training.samples, begin.card.preprocessing, chosen, seed=seed, extra=augmentation
    )
    run = Run(
        folder=folder,
        model=begin.model,
        card=begin.card.model_copy(
            update={
                "recipe": {"seed": seed}
                | chosen.model_dump(exclude={"workers", "cache_files", "skip_non_finite"})
            }
        ),
        recipe=chosen,
        pictures=pictures,
        validation=held_out,
        seed=seed,
        bf16=(
            computes_faster_in_bf16(accelerator.device)
            if chosen.precision == "auto"
            else chosen.precision == "bf16"
        ),
        quiet=quiet,
    )
    around = _folder_around(folder, places)
    with contextlib.ExitStack() as held:

        def claim() -> bool:
            look = partial(claim_folder, folder, config, resume=resume, data=around)
            look(write=False)  # Refuses before anything is created.
            held.enter_context(locked(folder))
            return look()

        continuing = ranks.on_first(claim)
        report(_plan(run, held_out))
        if ranks.is_first and not continuing:
            draw_training_samples(folder / "training_samples.jpg", pictures, training.names)
        if accelerator.device.type == "cpu":
            held.enter_context(freed_memory_kept())
        state = fit(run, accelerator, ranks, resume=continuing)
    return TrainResult(folder, folder / "best.safetensors", state.best, tuple(state.history))


def _settled(
    recipe: Recipe, model: nn.Module, pictures: int, accelerator: Accelerator, *, pretrained: bool
) -> Recipe:
    """The recipe with the values that follow from the data, the model and the machine."""
    epochs = recipe.epochs or (
        default_epochs(pictures, accelerated=accelerator.device.type != "cpu")
        if recipe.steps is None
        else max(1, round(recipe.steps / steps_per_epoch(pictures, recipe.batch_size)))
    )
    rate, share = default_rates(normalised=is_normalised(model), pretrained=pretrained)
    return recipe.model_copy(
        update={
            "epochs": epochs,
            "learning_rate": recipe.learning_rate or rate,
            "backbone_rate": recipe.backbone_rate or share,
        }
    )


def _with_truncated_sizes(begin: InitialModel) -> InitialModel:
    """The same weights over default boxes whose sizes are whole pixels."""
    boxes = begin.card.default_boxes.model_copy(update={"truncate_sizes": True})
    card = begin.card.model_copy(update={"default_boxes": boxes})
    model = build_ssd(card)
    model.load_state_dict(begin.model.state_dict())
    return replace(begin, model=model, card=card)


def _folder_around(folder: Path, places: Sequence[Path]) -> Path | None:
    """The data folder that ``folder`` lies in, if it lies in one."""
    holding = (place for place in places if folder.resolve().is_relative_to(place.resolve()))
    return next((place for place in holding if place.is_dir()), None)


def _default_folder(places: Sequence[Path], model: str, *, resume: bool) -> Path:
    """runs/<data>-<model>, numbered so that no run is written over; the last one to resume."""
    stem = display_name(places) or "samples"
    base = Path("runs", f"{stem}-{model}")
    number, folder = 1, base
    while folder.exists():
        latest = folder
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return latest if resume and number > 1 else folder


def _plan(run: Run, validation: DataSet | None) -> str:
    boxes = sum(len(sample.boxes) for sample in run.pictures.samples)
    seen = run.epochs * run.steps_per_epoch * min(run.recipe.batch_size, len(run.pictures))
    return (
        f"{run.card.model} on {len(run.pictures)} pictures with {boxes} objects of "
        f"{len(run.card.names)} classes ({', '.join(run.card.names)})"
        + (f", {len(validation)} for validation" if validation is not None else "")
        + f"; recipe {run.recipe.name}, {run.epochs} epochs, {seen} pictures seen, "
        f"learning rate {run.recipe.learning_rate:g}, seed {run.seed}; run folder {run.folder}"
    )
