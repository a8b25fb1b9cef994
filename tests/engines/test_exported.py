"""The card of exported files: where it is found, and what is said of files that are not ours."""

import importlib
import json
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import onnx
import pytest
from exported_files import NAMES, card, onnx_bytes, write_onnx, write_openvino
from hypothesis import given
from hypothesis import strategies as st

import multibox.engines.exported
from multibox import checkpoints
from multibox.card import ModelCard
from multibox.engines import is_exported, read_exported
from multibox.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def files(folder: Path) -> tuple[Path, Path]:
    return write_onnx(folder / "whole.onnx"), write_openvino(folder / "whole.xml")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_exported(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_the_card_comes_back(files: tuple[Path, Path]) -> None:
    for path in files:
        model = read_exported(path)
        assert model.card == card()
        assert model.path == path
        assert model.is_openvino == (path.suffix == ".xml")
        assert is_exported(path)
    assert not is_exported(Path("best.safetensors"))


def test_neither_onnx_nor_openvino_is_needed(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "openvino", "onnxruntime", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    module = importlib.reload(multibox.engines.exported)
    for path in files:
        assert module.read_exported(path).card.names == NAMES


def test_an_ir_whose_card_was_set_by_hand(folder: Path) -> None:
    path = folder / "hand.xml"
    path.with_suffix(".bin").touch()
    value = quoteattr(card().model_dump_json())
    for text in (f"<multibox value={value}/>", f"<framework><multibox value={value}/></framework>"):
        path.write_text(f'<net version="11"><layers/><rt_info>{text}</rt_info></net>')
        assert read_exported(path).card == card()


def test_an_ir_without_its_weights(files: tuple[Path, Path], folder: Path) -> None:
    path = folder / "alone.xml"
    path.write_bytes(files[1].read_bytes())
    with pytest.raises(InputError, match=r"alone\.bin: no such file: the weights of .*alone\.xml"):
        read_exported(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_what_is_not_there(folder: Path, suffix: str) -> None:
    assert "no such file" in refusal(folder / f"gone{suffix}")
    (folder / f"folder{suffix}").mkdir()
    assert "is a folder" in refusal(folder / f"folder{suffix}")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"not a model at all\n" * 9, b"<net>", b"<a/>"]
)
def test_what_is_no_model(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"none{suffix}"
    path.write_bytes(content)
    assert "damaged or not" in refusal(path)


def test_models_of_others(folder: Path) -> None:
    theirs = onnx.ModelProto(ir_version=8)
    theirs.graph.name = "theirs"
    path = folder / "theirs.onnx"
    path.write_bytes(theirs.SerializeToString())
    assert "a model of another project" in refusal(path)
    path = folder / "theirs.xml"
    path.write_text('<net name="x" version="11"><layers/><rt_info/></net>')
    assert "a model of another project" in refusal(path)


def with_card(folder: Path, text: str, suffix: str) -> Path:
    path = folder / f"card{suffix}"
    if suffix == ".onnx":
        model = onnx.ModelProto(ir_version=8)
        model.graph.name = "empty"
        model.metadata_props.add(key="multibox", value=text)
        path.write_bytes(model.SerializeToString())
    else:
        path.write_text(f"<net><rt_info><multibox value={quoteattr(text)}/></rt_info></net>")
    return path


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"schema_version": 99}), "written by a newer multibox (card version 99"),
        ("{", "the model card is not valid JSON"),
        ("[" * 100_000, "the model card is not valid JSON"),
        ("[]", "the model card is "),
        (json.dumps({"schema_version": 1}), "the model card is wrong at model"),
    ],
)
def test_wrong_cards(folder: Path, text: str, expected: str, suffix: str) -> None:
    assert expected in refusal(with_card(folder, text, suffix))


def test_entities_are_refused_before_they_grow(folder: Path) -> None:
    path = folder / "laughs.xml"
    laughs = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    path.write_text(f'<!DOCTYPE net [<!ENTITY a0 "ha">{laughs}]><net a="&a9;"/>')
    assert "it has a document type" in refusal(path)


@given(data=st.data(), suffix=st.sampled_from([".onnx", ".xml"]))
def test_damage_never_gives_a_traceback(
    files: tuple[Path, Path], folder: Path, data: st.DataObject, suffix: str
) -> None:
    """Cut off, or with a few bytes changed where the structure is: the ends of the file."""
    whole = small_onnx() if suffix == ".onnx" else files[1].read_bytes()[-20_000:]
    if suffix == ".xml":
        whole = b"<net><a>" + whole[whole.index(b"<") :].replace(b"</layers>", b"")
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
    path = folder / f"fuzz{suffix}"
    path.write_bytes(damaged)
    path.with_suffix(".bin").touch()
    message = ""
    try:
        assert isinstance(read_exported(path).card, ModelCard)
    except InputError as error:
        message = str(error)
    assert "\n" not in message


def small_onnx() -> bytes:
    model = onnx.ModelProto.FromString(onnx_bytes())
    del model.graph.initializer[:]
    del model.graph.node[20:]
    return model.SerializeToString()


def test_any_bytes_are_an_error(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(300):
        for suffix in (".onnx", ".xml"):
            path = folder / f"noise{suffix}"
            path.write_bytes(rng.bytes(i))
            refusal(path)


def test_a_checkpoint_says_the_same_of_its_card(folder: Path) -> None:
    path = folder / "deep.safetensors"
    text = json.dumps({"__metadata__": {"multibox": "[" * 100_000}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InputError, match="the model card is not valid JSON"):
        checkpoints.load(path)
