import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import multibox
from multibox import zoo
from multibox.card import ModelCard
from multibox.cli import main
from multibox.errors import InputError, MultiboxError

BLOCKED = """
import sys
for name in ("torch", "torchvision", "accelerate", "matplotlib"):
    sys.modules[name] = None
"""


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, timeout=60
    )


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; stdout must be empty."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("multibox: error: ")
    assert err.count("\n") == 1
    return err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("detect", "evaluate", "models"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("multibox") == multibox.__version__


def test_without_torch_the_command_line_starts_and_detect_explains_itself() -> None:
    done = run_without_torch(
        "import multibox\n"
        "from multibox.cli import main\n"
        "assert multibox.load and multibox.Detector and multibox.Detections\n"
        "assert main(['--help']) == 0\n"
        "sys.exit(main(['detect', '--help']))"
    )
    assert done.returncode == 0, done.stderr
    assert "--jsonl" in done.stdout
    assert done.stderr == ""


def test_start_up_imports_nothing_heavy() -> None:
    done = run_without_torch(
        "from multibox.cli import main\n"
        "main(['--help'])\n"
        "heavy = {'cv2', 'numpy', 'onnxruntime', 'pydantic', 'safetensors'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    assert {"load", "Detector", "Detections", "evaluate", "train"} <= set(dir(multibox))
    assert multibox.load.__module__ == "multibox.detector"
    assert multibox.evaluate.__module__ == "multibox.evaluation.evaluate"
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        multibox.laod  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["detct"], 'Did you mean "detect"?'),
        (["detect", "--scoer", "0.5"], "Did you mean --score?"),
        (["evaluate", "m", "d", "--metric=voc08"], 'Choose from: "voc07", "voc", "coco"'),
        (["evaluate", "m"], "DATA"),
        (["detect", "a.jpg", "--score", "high"], 'unable to convert "high" into float'),
        (["detect", "a.jpg", "--score", "1.5"], "Must be <= 1"),
    ],
)
def test_a_wrong_call_is_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert expected in error_line(capsys)


@pytest.mark.parametrize(
    ("error", "exit_code", "expected"),
    [
        (InputError("a.jpg: damaged\nreplace it"), 2, "a.jpg: damaged replace it"),
        (MultiboxError("the loss is not a number"), 1, "the loss is not a number"),
        (PermissionError(13, "Permission denied", "x.csv"), 1, "Permission denied: 'x.csv'"),
    ],
)
def test_errors_become_a_line_and_an_exit_code(
    error: Exception,
    exit_code: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("multibox.cli.models.read_card", raiser(error))
    assert main(["models", "x.safetensors"]) == exit_code
    assert expected in error_line(capsys)


def test_a_message_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = InputError("a\x1b[2J\x00b é\nc")
    monkeypatch.setattr("multibox.cli.models.read_card", raiser(error))
    assert main(["models", "x.safetensors"]) == 2
    assert error_line(capsys) == "multibox: error: a\\x1b[2J\\x00b é c\n"


def test_an_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("multibox.cli.models.read_card", raiser(KeyboardInterrupt()))
    assert main(["models", "x.safetensors"]) == 130
    assert capsys.readouterr().err == "multibox: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multibox.cli.models.read_card", raiser(IndexError("bug")))
    with pytest.raises(IndexError):
        main(["models", "x.safetensors"])


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", "import sys, multibox.cli as c; sys.exit(c.main(['models']))"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


def test_models_lists_the_zoo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [" ".join(line.split()) for line in lines]
    for model in zoo.MODELS.values():
        height, width = model.image_size
        count = zoo.new_card(model.name, ["object"]).default_boxes.count
        figure = model.published[0]
        row = (
            f"{model.name} {width} x {height} {count:,} {100 * figure.value:.1f} "
            f"{figure.metric.split()[0]} {model.summary}"
        )
        assert row.strip() in rows
    assert "ssd300_vgg16 300 x 300 8,732 77.2 VOC2007 the paper's SSD300" in rows


def test_models_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "ssd300_vgg16"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["default_boxes"]["levels"][0]["min_size"] == 30
    assert shown["architecture"]["backbone"] == "vgg16"
    assert not {"names", "metrics", "recipe", "origin", "parity"} & shown.keys()
    assert {
        "metric": "VOC2007 test mAP (11-point)",
        "value": 0.772,
        "trained_on": "VOC07+12 trainval",
        "source": "paper, table 6, with zoom-out",
    } in shown["published"]
    assert "torchvision:ssd300_vgg16" in shown["weights"]
    assert main(["models", "ssd30_vgg16"]) == 2
    assert "did you mean ssd300_vgg16?" in error_line(capsys)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_model_is_shown_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", name]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["published"]) == len(zoo.find_model(name).published)
    rest = {key: shown[key] for key in shown.keys() - {"published", "weights"}}
    assert ModelCard.model_validate(rest | {"names": ["object"]}) == zoo.new_card(name, ["object"])


def raiser(error: BaseException):  # type: ignore[no-untyped-def]
    def fail(*_: object) -> None:
        raise error

    return fail
