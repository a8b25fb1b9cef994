import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import multibox
from multibox import zoo
from multibox.cli import main
from multibox.data import Sample, open_data
from multibox.detector import Detector
from multibox.engines import RawDetections
from multibox.errors import InputError

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 64))
CAT = [0.25, 0.25, 0.75, 0.75]


class CatEngine:
    """Finds one cat in the middle of every picture, and a second one in its corner, later."""

    name = "fake"

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        b = len(images)
        return RawDetections(
            num=np.full(b, 2, np.int32),
            boxes=np.tile(np.array([CAT, [0, 0, 0.1, 0.1]], np.float32), (b, 1, 1)),
            scores=np.tile(np.array([0.9, 0.02], np.float32), (b, 1)),
            classes=np.zeros((b, 2), np.int32),
        )


DETECTOR = Detector(CatEngine(), CARD)


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures 0 to 3, a cat in the middle of each; test is 0 1 2, val is 3, train is 0."""
    monkeypatch.setattr("multibox.cli.evaluate.load", lambda model, **options: DETECTOR)
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(root / f"JPEGImages/{i}.jpg"), np.full((80, 80, 3), 50 * i, np.uint8))
        # 1-based and inclusive: the box is 20 to 60
        (root / f"Annotations/{i}.xml").write_text(
            f"<annotation><filename>{i}.jpg</filename>"
            "<size><width>80</width><height>80</height><depth>3</depth></size>"
            "<object><name>cat</name><bndbox><xmin>21</xmin><ymin>21</ymin>"
            "<xmax>60</xmax><ymax>60</ymax></bndbox></object></annotation>"
        )
    for split, ids in (("test", "0\n1\n2\n"), ("val", "3\n"), ("train", "0\n")):
        (root / f"ImageSets/Main/{split}.txt").write_text(ids)
    return root


def test_the_figures_are_printed_and_written(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "figures.json"
    assert main(["evaluate", "m.safetensors", str(voc), "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert "cat" in out
    assert "mAP 1.0000 (voc07, IoU 0.5) on 3 pictures" in out
    assert json.loads(target.read_text()) == {
        "metric": "voc07",
        "iou": 0.5,
        "map": 1.0,
        "per_class": {"cat": 1.0},
        "images": 3,
        "split": "test",
    }


def test_the_split_is_test_then_val_then_the_one_named(voc: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"

    def measured(*arguments: str) -> tuple[str, int]:
        assert main(["evaluate", "m", str(voc), "--json", str(target), *arguments]) == 0
        figures = json.loads(target.read_text())
        return figures["split"], figures["images"]

    assert measured() == ("test", 3)
    assert measured("--split", "val") == ("val", 1)
    (voc / "ImageSets/Main/test.txt").unlink()
    assert measured() == ("val", 1)


def test_notes_go_to_stderr_and_the_problem_is_said_once(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = voc / "Annotations/1.xml"
    broken = (
        "<object><name>dog</name><bndbox><xmin>30</xmin><ymin>30</ymin>"
        "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    mouse = broken.replace("dog", "mouse").replace("<xmin>30", "<xmin>1").replace("20<", "50<")
    mouse = mouse.replace("<ymin>30", "<ymin>1")
    xml.write_text(xml.read_text().replace("</annotation>", broken))
    xml.write_text(xml.read_text().replace("</annotation>", mouse))
    assert main(["evaluate", "m", str(voc)]) == 0
    out, err = capsys.readouterr()
    assert '"mouse"' in err  # unknown to the model, outside the mean
    assert err.count("Annotations/1.xml") == 1
    assert "Annotations" not in out
    assert "mAP 1.0000" in out


def test_coco_prints_its_twelve_figures(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faster_coco_eval")
    target = tmp_path / "figures.json"
    command = ["evaluate", "m", str(voc), "--metric", "coco", "--json", str(target)]
    assert main(command) == 0
    figures = json.loads(target.read_text())["coco"]
    assert len(figures) == 12
    out = capsys.readouterr().out
    assert all(f"{name} {figure:.3f}" in out for name, figure in figures.items())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["gone"], "gone: no such file or folder"), (["voc", "--split", "tset"], "'test'")],
)
def test_wrong_input_is_one_line(
    voc: Path,
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(voc.parent)
    assert main(["evaluate", "m", *arguments]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1


def test_the_python_function_takes_paths_data_sets_and_samples(voc: Path) -> None:
    seen: list[tuple[int, int]] = []
    by_path = multibox.evaluate(
        DETECTOR, voc, batch_size=2, on_progress=lambda done, total: seen.append((done, total))
    )
    assert (by_path.map, by_path.images, by_path.split) == (1.0, 3, "test")
    assert seen == [(2, 3), (3, 3)]
    assert multibox.evaluate(DETECTOR, open_data(voc, split="val"), metric="voc").images == 1

    grey = np.zeros((40, 80, 3), np.uint8)
    samples = [
        Sample.of(grey, [[20, 10, 60, 30]], [0], width=80, height=40),
        Sample.of(grey, [[70, 30, 80, 40]], [0], width=80, height=40),
    ]
    # At rank 1 of 4 one of the two cats is found, the other never: precision 1 up to recall 0.5.
    evaluation = multibox.evaluate(DETECTOR, samples)
    assert evaluation.map == pytest.approx(6 / 11)
    assert evaluation.per_class["dog"] is None


def test_evaluate_names_the_missing_model(voc: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        multibox.evaluate(voc / "gone.safetensors", voc)
