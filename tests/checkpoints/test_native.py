import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from safetensors.numpy import save_file

from multibox import checkpoints, zoo
from multibox.card import CARD_KEY, SCHEMA_VERSION, ModelCard
from multibox.errors import InputError, MultiboxError

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "heads.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "heads.0.bias": np.array([0.5, -1], np.float16),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def card() -> ModelCard:
    return zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "rote Äpfel", "犬"])


@pytest.fixture
def path(tmp_path: Path, card: ModelCard) -> Path:
    file = tmp_path / "model.safetensors"
    checkpoints.save(file, ARRAYS, card)
    return file


def write_raw(path: Path, header: dict[str, Any], data: bytes = b"") -> None:
    """A safetensors file by its specification: length of the header, header, data."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def raw_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header


def test_round_trip(path: Path, card: ModelCard) -> None:
    loaded = checkpoints.load(path)
    assert loaded.card == card
    assert loaded.path == path
    assert loaded.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert loaded.arrays[name].shape == array.shape
        np.testing.assert_array_equal(loaded.arrays[name], array)
    assert checkpoints.read_card(path) == card


@settings(max_examples=30, deadline=None)
@given(
    array=st_numpy.arrays(
        st.sampled_from([np.float32, np.float16, np.int64]),
        st_numpy.array_shapes(min_dims=0, max_dims=4, max_side=4),
    ),
    data=st.data(),
)
def test_any_memory_layout_survives(
    array: npt.NDArray[Any], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    view = array.transpose(data.draw(st.permutations(range(array.ndim))))
    path = tmp_path_factory.mktemp("layout") / "model.safetensors"
    checkpoints.save(path, {"a": view}, zoo.new_card("ssd300_vgg16", ["cat"]))
    np.testing.assert_array_equal(checkpoints.load(path).arrays["a"], view)


def test_the_file_is_plain_safetensors_with_one_metadata_key(path: Path, card: ModelCard) -> None:
    metadata = raw_header(path)["__metadata__"]
    assert list(metadata) == [CARD_KEY] == ["multibox"]
    assert json.loads(metadata["multibox"]) == json.loads(card.model_dump_json())


def test_the_arrays_do_not_depend_on_the_file_any_more(path: Path) -> None:
    loaded = checkpoints.load(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    np.testing.assert_array_equal(loaded.arrays["heads.0.weight"], ARRAYS["heads.0.weight"])


def test_an_interrupted_save_leaves_the_old_file(
    path: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(MultiboxError, match=r"model\.safetensors.*No space left"):
        checkpoints.save(path, {"other": np.zeros(3, np.float32)}, card)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_one_line(path: Path, card: ModelCard) -> None:
    with pytest.raises(MultiboxError, match="cannot be written"):
        checkpoints.save(path / "inside.safetensors", ARRAYS, card)


def message_of(path: Path) -> str:
    """The error of both readers, which must agree, and be one line that names the file."""
    with pytest.raises(InputError) as of_card:
        checkpoints.read_card(path)
    with pytest.raises(InputError) as of_load:
        checkpoints.load(path)
    message = str(of_load.value)
    assert message == str(of_card.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in message_of(tmp_path / "nothing.safetensors")


def test_a_run_folder_names_the_file_in_it(tmp_path: Path) -> None:
    assert "give the .safetensors file" in message_of(tmp_path)
    (tmp_path / "best.safetensors").touch()
    assert f"give {tmp_path / 'best.safetensors'}" in message_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickled .pth", b"\x00" * 100, b"{}" * 50])
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    assert "not a safetensors file" in message_of(path)


def test_truncated_anywhere(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    cut = tmp_path / "cut.safetensors"
    for length in {0, 4, 8, 9, header_end // 2, header_end, header_end + 1, len(data) - 1}:
        cut.write_bytes(data[:length])
        assert "damaged" in message_of(cut)


def test_a_flipped_header_bit_is_an_error_or_harmless(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.safetensors"
    messages = []
    for at, bit in zip(rng.integers(0, header_end, 300), rng.integers(0, 8, 300), strict=True):
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        damaged.write_bytes(flipped)
        try:
            checkpoints.load(damaged)
        except InputError as error:
            messages.append(str(error))
    assert all(str(damaged) in message and "\n" not in message for message in messages)
    assert len(messages) > 100  # the rest only renamed a class or changed a digit


def test_a_file_of_another_project(tmp_path: Path) -> None:
    path = tmp_path / "timm.safetensors"
    save_file({"a": np.zeros(2, np.float32)}, path, metadata={"format": "pt"})
    assert "another project" in message_of(path)
    save_file({"a": np.zeros(2, np.float32)}, path)
    assert "another project" in message_of(path)


def test_a_dtype_numpy_lacks(path: Path) -> None:
    header = {
        "__metadata__": raw_header(path)["__metadata__"],
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
    }
    write_raw(path, header, b"\0" * 4)
    with pytest.raises(InputError, match="bfloat16"):
        checkpoints.load(path)


def test_a_newer_card(path: Path) -> None:
    header = raw_header(path)
    fields = json.loads(header["__metadata__"][CARD_KEY])
    fields |= {"schema_version": SCHEMA_VERSION + 1, "field_of_the_future": 1}
    write_raw(path, {"__metadata__": {CARD_KEY: json.dumps(fields)}})
    assert "newer multibox" in message_of(path)
    assert "pip install --upgrade multibox" in message_of(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid JSON"),
        ("[]", "wrong at the whole"),
        ("null", "wrong at the whole"),
        ("{}", "wrong at model: Field required"),
    ],
)
def test_a_broken_card(path: Path, text: str, expected: str) -> None:
    write_raw(path, {"__metadata__": {CARD_KEY: text}})
    assert expected in message_of(path)


def test_an_unknown_key_in_the_card_is_named(path: Path) -> None:
    fields = json.loads(raw_header(path)["__metadata__"][CARD_KEY])
    fields["preprocessing"]["sharpen"] = True
    write_raw(path, {"__metadata__": {CARD_KEY: json.dumps(fields)}})
    assert "preprocessing.sharpen" in message_of(path)
