"""What a run leaves behind, and what the API takes."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from tiny_runs import OPTIONS, Train

import multibox
from multibox import checkpoints
from multibox.data import Sample, open_data
from multibox.errors import ImageError, InputError
from multibox.evaluation import evaluate_model, plot_precision_recall
from multibox.training import run_folder
from multibox.training.train import TrainResult, train

NAMES = ("ball", "board", "ring", "star", "triangle")


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def finished(
    scenes: Path, tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> TrainResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multibox.training.epoch_end.plot_curves", run_folder.plot_curves)
        patch.setattr("multibox.training.epoch_end.plot_precision_recall", plot_precision_recall)
        return train(
            **(OPTIONS | {"recipe": "paper", "learning_rate": 0.01, "seed": 3}),
            data=scenes,
            out=tmp_path_factory.mktemp("finished") / "run",
            report=said.append,
        )


def test_the_folder_holds_all_that_was_promised(finished: TrainResult) -> None:
    names = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*")}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        ".lock",
        "config.json",
        "metrics.csv",
        "best.safetensors",
        "last",
        "last/state.safetensors",
        "last/previous.safetensors",
        "curves.png",
        "precision_recall.png",
        "training_samples.jpg",
        "validation_predictions.jpg",
    }
    for picture in ("curves.png", "training_samples.jpg", "validation_predictions.jpg"):
        pixels = cv2.imread(str(finished.folder / picture))
        assert pixels is not None
        assert min(pixels.shape[:2]) > 60


def test_the_configuration(finished: TrainResult, scenes: Path) -> None:
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["multibox"] == multibox.__version__
    assert config["data"] == str(scenes)
    assert config["model"] == "tiny_plain"
    assert config["weights"] == "none"
    assert config["classes"] == list(NAMES)
    assert config["image_size"] == [64, 64]
    assert (config["pictures"], config["seed"]) == (9, 3)
    assert config["recipe"]["name"] == "paper"
    assert config["recipe"]["epochs"] == 3


def test_the_metrics(finished: TrainResult) -> None:
    header, *rows = (finished.folder / "metrics.csv").read_text().splitlines()
    assert header.split(",")[:4] == ["epoch", "step", "learning_rate", "loss"]
    assert len(rows) == 3
    assert [row["epoch"] for row in finished.history] == [1, 2, 3]
    assert [row["step"] for row in finished.history] == [2, 4, 6]
    # Six steps: a tenth from the fifth on, a hundredth in the last.
    rates = [row["learning_rate"] for row in finished.history]
    assert rates == pytest.approx([0.01, 0.01, 0.0001])
    for row in finished.history:
        parts = float(row["confidence_loss"] or 0) + float(row["localisation_loss"] or 0)
        assert row["loss"] == pytest.approx(parts)


def test_the_card_of_the_best_weights(finished: TrainResult) -> None:
    card = checkpoints.read_card(finished.best)
    assert finished.best == finished.folder / "best.safetensors"
    assert card.names == NAMES
    assert card.origin == "random weights"
    assert card.recipe is not None
    assert card.recipe["seed"] == 3
    assert card.recipe["epochs"] == 3
    assert card.recipe["learning_rate"] == 0.01
    best = max(range(3), key=lambda i: (finished.history[i]["map"], i))
    assert card.metrics["epoch"] == best + 1
    validation = card.metrics["validation"]
    assert validation["map"] == finished.best_map == finished.history[best]["map"]
    assert (validation["metric"], validation["split"], validation["images"]) == ("voc07", "val", 3)
    assert set(validation["per_class"]) == set(NAMES)


def test_the_best_weights_measure_what_the_card_says(finished: TrainResult, scenes: Path) -> None:
    detector = multibox.load(finished.best)
    evaluation, _ = evaluate_model(detector, open_data(scenes, split="val"), metric="voc07")
    assert evaluation.map == finished.best_map


def test_the_plan_is_said_before_the_first_step(finished: TrainResult, said: list[str]) -> None:
    plan = said[-1]
    assert "tiny_plain on 9 pictures with" in plan
    assert "5 classes (ball, board, ring, star, triangle), 3 for validation" in plan
    assert "recipe paper, 3 epochs, 24 pictures seen, learning rate 0.01, seed 3" in plan
    assert str(finished.folder) in plan


def test_the_number_of_epochs_that_follows_from_the_data_is_said(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def epochs(pictures: int, *, accelerated: bool) -> int:
        asked.append((pictures, accelerated))
        return 2

    monkeypatch.setattr("multibox.training.train.default_epochs", epochs)
    said: list[str] = []
    result = run(epochs=None, report=said.append)
    assert asked == [(9, False)]
    assert "recipe modern, 2 epochs" in said[-1]
    assert len(result.history) == 2
    recipe = checkpoints.read_card(result.best).recipe
    assert recipe is not None
    assert recipe["epochs"] == 2


def test_some_of_the_classes(run: Train, scenes: Path) -> None:
    result = run(classes=["ring", "ball"], epochs=1)
    assert checkpoints.read_card(result.best).names == ("ring", "ball")
    config = json.loads((result.folder / "config.json").read_text())
    assert config["pictures"] == 9  # those without such objects as well


def test_samples_instead_of_a_folder(run: Train, samples: list[Sample]) -> None:
    result = run(data=samples[:6], names=NAMES, epochs=2, classes=["star"])
    assert checkpoints.read_card(result.best).names == ("star",)
    # Nothing to choose by: the newest weights are kept.
    assert checkpoints.read_card(result.best).metrics == {"epoch": 2}
    assert result.best_map is None
    assert not (result.folder / "validation_predictions.jpg").exists()


def test_samples_with_others_for_validation(run: Train, samples: list[Sample]) -> None:
    result = run(data=samples[:6], validation=samples[6:], names=NAMES, epochs=1)
    assert checkpoints.read_card(result.best).metrics["validation"]["images"] == 3


def test_an_unknown_class_of_samples(run: Train, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match=r"\['cat'\] are not among"):
        run(data=samples, names=NAMES, classes=["cat"])


def test_fine_tuning_says_what_is_kept(run: Train, finished: TrainResult) -> None:
    said: list[str] = []
    result = run(weights=finished.best, classes=["star"], epochs=1, report=said.append)
    assert any("from 5 classes" in line and "star and the background keep" in line for line in said)
    origin = checkpoints.read_card(result.best).origin
    assert origin == f"fine-tuned from best.safetensors ({', '.join(NAMES)})"


def test_an_extra_augmentation_is_used(run: Train) -> None:
    seen: list[str] = []

    def extra(
        image: npt.NDArray[np.uint8], sample: Sample, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], Sample]:
        seen.append(sample.id)
        return image, sample

    run(augmentation=extra, epochs=2, mosaic_probability=0.0)
    # Two epochs of two batches, and the sheet of samples.
    assert len(seen) == 2 * 2 * 4 + 9


def test_folders_are_numbered_and_the_last_one_is_resumed(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = OPTIONS | {"data": scenes, "epochs": 1}
    folders = [train(**options).folder for _ in range(3)]
    base = Path("runs", "scenes-tiny_plain")
    assert folders == [base, Path(f"{base}-2"), Path(f"{base}-3")]
    assert train(**options, resume=True).folder == folders[-1]


def test_the_data_folder_is_not_written_into(run: Train, scenes: Path) -> None:
    before = sorted(scenes.rglob("*"))
    for out in (scenes, scenes / "JPEGImages", scenes / "new"):
        with pytest.raises(InputError, match="lies in the data folder"):
            run(out=out)
    assert sorted(scenes.rglob("*")) == before


def test_wrong_labels_and_made_splits_are_said_once(
    scenes: Path, samples: list[Sample], run: Train, tmp_path: Path
) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    (data / "ImageSets/Main/val.txt").unlink()
    broken = next((data / "Annotations").glob("*.xml"))
    text = broken.read_text().replace("</annotation>", "")
    broken.write_text(
        f"{text}<object><name>ball</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>3</xmax>"
        "<ymax>3</ymax></bndbox></object></annotation>"
    )
    said: list[str] = []
    run(data=data, epochs=1, report=said.append)
    assert len(said) == len(set(said))
    assert any("val" in line for line in said[:-1])
    assert sum(broken.name in line for line in said) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_later_is_one_line(
    run: Train, samples: list[Sample], tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "damaged.jpg"
    image = samples[0].image
    assert isinstance(image, Path)
    path.write_bytes(image.read_bytes())
    damaged = Sample.of(path, samples[0].boxes, samples[0].labels, width=96, height=72)

    def extra(
        image: npt.NDArray[np.uint8], sample: Sample, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], Sample]:
        path.write_bytes(b"no longer a picture")
        return image, sample

    with pytest.raises(ImageError, match=r"damaged\.jpg") as caught:
        run(data=[*samples, damaged] * 2, names=NAMES, augmentation=extra, workers=workers)
    assert "\n" not in str(caught.value)


def test_the_paper_recipe_sees_the_difficult_objects_by_its_switch(
    run: Train, tmp_path: Path, samples: list[Sample]
) -> None:
    from dataclasses import replace

    hard = [replace(sample, difficult=np.ones(len(sample.boxes), bool)) for sample in samples]
    changes = {"data": hard, "names": NAMES, "epochs": 1, "min_negatives": 0}
    with_them = run(**changes, out=tmp_path / "a")
    without = run(**changes, out=tmp_path / "b", train_difficult=False)
    assert float(with_them.history[0]["loss"] or 0) > 1
    assert math.isclose(float(without.history[0]["loss"] or 0), 0)
