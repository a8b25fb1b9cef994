import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from multibox import checkpoints
from multibox.cli import main
from multibox.data import synthetic
from multibox.data.policies import DEFAULT_POLICIES, Policies
from multibox.errors import InputError
from multibox.training.recipes import Recipe

pytest.importorskip("torch")

from multibox.training import loop
from multibox.training.train import TrainResult

SMALL = [
    "--model=ssdlite320_mobilenet_v2",
    "--weights=none",
    "--image-size=64",
    "--batch-size=4",
    "--epochs=2",
    "--workers=0",
    "--precision=fp32",
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 labelled pictures of 96 x 72 pixels: 8 to train on in two steps, 3 to validate."""
    return synthetic.generate(
        tmp_path_factory.mktemp("data") / "scenes",
        images=11,
        size=(96, 72),
        splits={"train": 0.75, "val": 0.25},
    )


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Any:
    """No curves: Matplotlib would take most of the time of so small a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multibox.training.epoch_end.plot_curves", lambda *_: None)
        patch.setattr("multibox.training.epoch_end.plot_precision_recall", lambda *_: None)
        yield


class Call:
    """What the API was called with, in place of a training."""

    def __init__(self) -> None:
        self.positional: tuple[Any, ...] = ()
        self.keywords: dict[str, Any] = {}

    def __call__(self, *positional: Any, **keywords: Any) -> TrainResult:
        self.positional, self.keywords = positional, keywords
        return TrainResult(Path("run"), Path("run/best.safetensors"), 0.51236, ())


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    recorded = Call()
    monkeypatch.setattr("multibox.training.train.train", recorded)
    return recorded


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("multibox: error: ")
    assert err.count("\n") == 1
    return err


def test_the_least_that_is_needed(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data", "--model", "m"]) == 0
    assert call.positional == (Path("data"),)
    report = call.keywords.pop("report")
    assert call.keywords == {
        "model": "m",
        "weights": None,
        "classes": None,
        "image_size": None,
        "backbone": None,
        "default_boxes": "zoo",
        "policies": DEFAULT_POLICIES,
        "out": None,
        "recipe": "modern",
        "seed": 0,
        "resume": False,
        "quiet": False,
    }
    report("a line")
    out, err = capsys.readouterr()
    assert out == "best weights: run/best.safetensors (mAP 0.5124 on validation)\n"
    assert err == "a line\n"


def test_all_flags(call: Call) -> None:
    command = (
        "train data --model m --backbone timm:resnet18 --weights w.safetensors "
        "--image-size 300x400 --default-boxes coco --policy tiny-box=drop-box --out o "
        "--recipe paper --seed 7 --resume --epochs 3 --batch-size 8 --learning-rate 1e-4 "
        "--no-augment --schedule cosine --ema 0.5 --decay-biases --workers 0"
    )
    assert main(command.split()) == 0
    assert call.keywords.pop("report")
    assert call.keywords == {
        "model": "m",
        "backbone": "timm:resnet18",
        "weights": "w.safetensors",
        "classes": None,
        "image_size": (300, 400),
        "default_boxes": "coco",
        "policies": Policies({"tiny-box": "drop-box"}),
        "out": Path("o"),
        "recipe": "paper",
        "seed": 7,
        "resume": True,
        "quiet": False,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "augment": False,
        "schedule": "cosine",
        "ema": 0.5,
        "decay_biases": True,
        "workers": 0,
    }


def test_a_recipe_card_names_the_model_itself(call: Call) -> None:
    assert main(["train", "VOC2007+VOC2012", "--recipe", "voc0712-ssd300"]) == 0
    assert call.positional == (Path("VOC2007+VOC2012"),)
    assert (call.keywords["model"], call.keywords["weights"]) == (None, None)
    assert call.keywords["recipe"] == "voc0712-ssd300"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "which detector?"),
        (["--recipe", "voc0712-ssd30"], "did you mean voc0712-ssd300?"),
        (["--recipe", "coco-ssd300", "--model", "ssd512_vgg16"], "trains ssd300_vgg16, not"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(
    flags: list[str], message: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "data", *flags]) == 2
    assert message in error_line(capsys)
    assert call.positional == ()


def test_every_key_of_a_recipe_is_a_flag(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for key in Recipe.model_fields:
        assert (f"--{key.replace('_', '-')}" in text) == (key != "name")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--classes", "cat,dog"], ["cat", "dog"]),
        (["--classes", "cat", "--classes", "big dog"], ["cat", "big dog"]),
        (["--classes=cat, Größe ,犬"], ["cat", "Größe", "犬"]),
    ],
)
def test_forms_of_classes(call: Call, flags: list[str], expected: list[str]) -> None:
    assert main(["train", "data", "--model", "m", *flags]) == 0
    assert call.keywords["classes"] == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("300", (300, 300)), ("300x400", (300, 400)), ("64x64", (64, 64))]
)
def test_forms_of_the_image_size(call: Call, text: str, expected: tuple[int, int]) -> None:
    assert main(["train", "data", "--model", "m", "--image-size", text]) == 0
    assert call.keywords["image_size"] == expected


def test_only_the_first_rank_prints(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(["train", "data", "--model", "m"]) == 0
        assert capsys.readouterr().out.count("\n") == lines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gone", *SMALL], "gone: no such file or folder"),
        (["scenes"], "--model"),
        ([], "DATA"),
        (["scenes", *SMALL, "--model=ssdlite320_mobilenet_v4"], "did you mean ssdlite320"),
        (["scenes", *SMALL, "--recipe=modren"], "did you mean modern?"),
        (["scenes", *SMALL, "--learning-rat", "1"], "Did you mean --learning-rate?"),
        (["scenes", *SMALL, "--learning-rate=-1"], "Input should be greater than 0"),
        (
            ["scenes", *SMALL, "--learning-rate=high"],
            "--learning-rate high: Input should be",
        ),
        (
            ["scenes", *SMALL, "--schedule=linear"],
            "Input should be 'steps' or 'cosine'",
        ),
        (["scenes", *SMALL, "--image-size=big"], "--image-size big: write one number or"),
        (["scenes", *SMALL, "--image-size=0"], "take at least 64 pixels"),
        (["scenes", *SMALL, "--image-size=-3"], "--image-size"),
        (["scenes", *SMALL, "--seed=-1"], "seed -1 is out of range"),
        (["scenes", *SMALL, "--classes=bell"], "did you mean 'ball'?"),
        (["scenes", *SMALL, "--weights=gone.safetensors"], "gone.safetensors: no such file"),
        (["scenes", *SMALL, "--batch-size=1"], "this detector needs 2"),
        (["scenes", *SMALL, "--out=scenes"], "lies in the data folder"),
        (["scenes", *SMALL, "--default-boxes=vok"], 'Choose from: "zoo", "voc", "coco"'),
        (["scenes", *SMALL, "--default-boxes=coco"], "was published with one set"),
        (["scenes", *SMALL, "--backbone=resnet18"], "give one of timm's, timm:NAME"),
        (["scenes", *SMALL, "--backbone=timm:resnet81"], "did you mean resnet18"),
    ],
)
def test_a_wrong_call_is_one_line(
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(scenes.parent)
    # A flag given twice would be a mistake of its own.
    names = [argument.partition("=")[0] for argument in arguments]
    last = [a for i, a in enumerate(arguments) if names[i] not in names[i + 1 :]]
    assert main(["train", *last]) == 2
    assert expected in error_line(capsys)
    assert not (scenes.parent / "runs").exists()


def test_weights_that_cannot_be_had(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from multibox.backbones import ImageNetSource

    def offline(self: ImageNetSource) -> None:
        raise InputError("mobilenet_v2.pth is missing: put it there, or --weights none")

    monkeypatch.setattr(ImageNetSource, "download", offline)
    flags = [flag for flag in SMALL if not flag.startswith("--weights")]
    assert main(["train", str(scenes), *flags, "--out", str(tmp_path / "run")]) == 2
    assert "mobilenet_v2.pth is missing" in error_line(capsys)
    assert not (tmp_path / "run").exists()


def test_from_data_to_weights_and_no_further(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(scenes), *SMALL, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    best = tmp_path / "run" / "best.safetensors"
    assert out.startswith(f"best weights: {best} (mAP 0.")
    plan, *epochs = err.splitlines()
    assert "ssdlite320_mobilenet_v2 on 8 pictures" in plan
    assert [line.split()[:2] for line in epochs] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert all("voc07 mAP" in line for line in epochs)
    assert "\x1b" not in err
    card = checkpoints.read_card(best)
    assert card.model == "ssdlite320_mobilenet_v2"
    assert card.preprocessing.image_size == (64, 64)

    table = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert main(command) == 2
    assert "continue it with --resume or choose another --out" in error_line(capsys)
    assert main([*command, "--resume"]) == 0
    again, err = capsys.readouterr()
    assert again == out
    assert "epoch" not in err.replace("2 epochs", "")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == table
    assert main([*command, "--resume", "--ema", "0.2"]) == 2
    assert "recipe.ema" in error_line(capsys)


def test_a_timm_backbone_and_the_other_default_boxes(scenes: Path, tmp_path: Path) -> None:
    command = ["train", str(scenes), *SMALL[1:], "--out", str(tmp_path / "run")]
    command += ["--model=ssd300_resnet34", "--backbone=timm:test_resnet", "--default-boxes=voc"]
    assert main(command) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["backbone"], config["default_boxes"]) == ("timm:test_resnet", "voc")
    card = checkpoints.read_card(tmp_path / "run" / "best.safetensors")
    assert card.architecture.backbone == "timm:test_resnet"
    assert card.default_boxes.levels[0].min_size == pytest.approx(0.1 * 64)


def test_sigterm_leaves_a_state(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = loop.Step.__call__

    def step_and_signal(self: loop.Step, batch: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(loop.Step, "__call__", step_and_signal)
    out = tmp_path / "run"
    assert main(["train", str(scenes), *SMALL, "--out", str(out)]) == 143
    assert f"continue with --resume --out {out}" in capsys.readouterr().err
    assert (out / "last" / "state.safetensors").exists()


SLOW_STEPS = """
import sys, time
from multibox.cli import main
from multibox.training import loop
step = loop.Step.__call__
def slowly(self, batch):
    print("stepping", flush=True)
    time.sleep(1)
    return step(self, batch)
loop.Step.__call__ = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of a process group")
def test_ctrl_c_in_a_terminal(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal reaches the workers as well; the run ends cleanly and can be resumed."""
    flags = [flag for flag in SMALL if not flag.startswith("--workers")]
    command = ["train", str(scenes), *flags, "--workers=1", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_STEPS, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stepping\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("multibox: error: interrupted in epoch 1 of 2")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out.startswith("best weights: ")


SLOW_START = """
import os, sys, time
from multibox.cli import main
from multibox.training import train
def slowly(*_, **__):
    print("starting", flush=True)
    time.sleep(60)
train.train = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_before_the_first_step(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_START, "train", "data", "--model", "m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n"
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.count("\n") == 1
