import io
import os
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import nn

from multibox.errors import InputError
from multibox.importers.state_dict import read_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -2.0])}


def as_bytes(content: Any, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def put(folder: Path, content: bytes, name: str = "w.pth") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def assert_is_state(arrays: dict[str, Any]) -> None:
    assert arrays.keys() == STATE.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, STATE[name].numpy())


def assert_refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 250


class TestReads:
    @pytest.mark.parametrize("legacy", [False, True])
    def test_both_of_torchs_formats(self, legacy: bool, tmp_path: Path) -> None:
        assert_is_state(read_state_dict(put(tmp_path, as_bytes(STATE, legacy=legacy))))

    def test_safetensors_by_whatever_name(self, tmp_path: Path) -> None:
        data = to_safetensors(STATE)
        assert_is_state(read_state_dict(put(tmp_path, data, "w.safetensors")))
        assert_is_state(read_state_dict(put(tmp_path, data, "w.bin")))

    @pytest.mark.parametrize(
        "wrapped",
        [
            {"state_dict": STATE},
            {"model": STATE, "optimizer": {"state": {}}, "epoch": 3},
            {"model_state_dict": STATE, "loss": torch.tensor(0.5)},
            {"net": STATE},
            {"model": {"state_dict": STATE}, "iteration": 7},
            {f"module.{name}": value for name, value in STATE.items()},
            {f"module._orig_mod.{name}": value for name, value in STATE.items()},
            OrderedDict((name, nn.Parameter(value)) for name, value in STATE.items()),
            {**STATE, "version": "1.2", "steps": [1, 2], 3: torch.zeros(1)},
        ],
    )
    def test_what_training_scripts_put_around_it(self, wrapped: Any, tmp_path: Path) -> None:
        assert_is_state(read_state_dict(put(tmp_path, as_bytes(wrapped), "w.pth.tar")))

    def test_a_prefix_that_only_some_names_have_stays(self, tmp_path: Path) -> None:
        state = {"module.a": torch.ones(1), "b": torch.ones(1)}
        assert read_state_dict(put(tmp_path, as_bytes(state))).keys() == {"module.a", "b"}

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_floats_of_every_precision(self, dtype: torch.dtype, tmp_path: Path) -> None:
        state = {name: value.to(dtype) for name, value in STATE.items()}
        assert_is_state(read_state_dict(put(tmp_path, as_bytes(state))))
        assert_is_state(read_state_dict(put(tmp_path, to_safetensors(state), "w.safetensors")))

    def test_integers_stay_integers(self, tmp_path: Path) -> None:
        state = {"count": torch.tensor(7), "ids": torch.tensor([1, 2], dtype=torch.uint8)}
        for data, name in ((as_bytes(state), "w.pth"), (to_safetensors(state), "w.safetensors")):
            arrays = read_state_dict(put(tmp_path, data, name))
            assert (arrays["count"].dtype, arrays["count"].shape) == (np.int64, ())
            assert arrays["ids"].tolist() == [1, 2]

    def test_views_and_shared_memory(self, tmp_path: Path) -> None:
        base = torch.arange(12.0).reshape(3, 4)
        arrays = read_state_dict(put(tmp_path, as_bytes({"t": base.t(), "base": base})))
        np.testing.assert_array_equal(arrays["t"], base.numpy().T)


class Exploit:
    """What a hostile file holds: a call that happens on unpickling."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


class Evaluated(Exploit):
    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.trace)!r}, 'w').close()",)


class TestNothingRuns:
    @pytest.mark.parametrize("kind", [Exploit, Evaluated])
    @pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "beside weights"])
    def test_code_in_a_pickle(self, kind: type[Exploit], form: str, tmp_path: Path) -> None:
        trace = tmp_path / "it-ran"
        content: Any = {"state_dict": {**STATE, "x": kind(trace)}}
        if form == "plain pickle":
            data = pickle.dumps(kind(trace), protocol=2)
        elif form == "beside weights":
            data = as_bytes({**STATE, "hook": kind(trace)})
        else:
            data = as_bytes(content, legacy=form == "legacy")
        path = put(tmp_path, data)
        assert_refused(path, r"needs more than weights .*state_dict\(\)")
        assert not trace.exists()

    def test_code_in_a_newer_pickle(self, tmp_path: Path) -> None:
        trace = tmp_path / "it-ran"
        assert_refused(put(tmp_path, pickle.dumps(Exploit(trace))), r"not written by torch\.save")
        assert not trace.exists()

    def test_the_exploit_is_a_real_one(self, tmp_path: Path) -> None:
        path = put(tmp_path, as_bytes({"x": Exploit(tmp_path / "it-ran")}))
        torch.load(path, weights_only=False)
        assert (tmp_path / "it-ran").exists()

    def test_the_environment_cannot_allow_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        trace = tmp_path / "it-ran"
        assert_refused(put(tmp_path, as_bytes({"x": Exploit(trace)})), "needs more than weights")
        assert not trace.exists()

    @pytest.mark.parametrize("legacy", [False, True])
    def test_whole_models(self, legacy: bool, tmp_path: Path) -> None:
        path = put(tmp_path, as_bytes(nn.Linear(2, 2), legacy=legacy))
        assert_refused(path, r"torch\.nn\.modules\.linear\.Linear.*save model\.state_dict\(\)")


class TestRefuses:
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        assert_refused(tmp_path, "is a folder")
        assert_refused(tmp_path / "gone.pth", "no such file")
        assert_refused(put(tmp_path, b""), "is empty")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_instead_of_waiting_for_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.pth")
        assert_refused(tmp_path / "pipe.pth", "not a regular file")

    @pytest.mark.parametrize(
        ("start", "match"),
        [
            (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
            (b"hello", "is not a PyTorch or safetensors file"),
            (bytes(64), "is not a PyTorch or safetensors file"),
        ],
    )
    def test_other_kinds_of_files(self, start: bytes, match: str, tmp_path: Path) -> None:
        assert_refused(put(tmp_path, start), match)

    def test_archives_of_others(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "arrays.npz", a=np.ones(2))
        assert_refused(tmp_path / "arrays.npz", "a NumPy archive")
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            archive.writestr("readme.txt", "hello")
        assert_refused(tmp_path / "z.zip", "a zip archive without weights")
        with tarfile.open(tmp_path / "t.tar", "w") as tar:
            tar.add(tmp_path / "z.zip", "z.zip")
        assert_refused(tmp_path / "t.tar", "is not a PyTorch or safetensors file")

    def test_torchscript(self, tmp_path: Path) -> None:
        with warnings.catch_warnings(action="ignore"):
            torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "w.pt"))
        assert_refused(tmp_path / "w.pt", "a TorchScript program")

    def test_a_compressed_archive(self, tmp_path: Path) -> None:
        state = put(tmp_path, as_bytes({"a": torch.zeros(10_000)}))
        bomb = tmp_path / "bomb.pth"
        with (
            zipfile.ZipFile(state) as source,
            zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for entry in source.infolist():
                target.writestr(entry.filename, source.read(entry))
        assert_refused(bomb, "compressed")

    @pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.ones(2), 5, None, "text"])
    def test_content_without_named_tensors(self, content: Any, tmp_path: Path) -> None:
        assert_refused(put(tmp_path, as_bytes(content)), "has no arrays")

    def test_a_wrapper_that_holds_itself(self, tmp_path: Path) -> None:
        knot: dict[str, Any] = {}
        knot["model"] = knot
        assert_refused(put(tmp_path, as_bytes(knot)), "has no arrays")

    @pytest.mark.parametrize(
        ("tensor", "match"),
        [
            (torch.eye(2).to_sparse(), "'x' is a sparse or quantised tensor"),
            (torch.zeros(2, device="meta"), "'x' is a sparse or quantised tensor"),
            (torch.zeros(2, dtype=torch.complex64), "'x' holds complex numbers"),
            (torch.zeros(1).expand(1 << 40), "many more than it holds"),
        ],
    )
    def test_tensors_that_are_no_weights(
        self, tensor: torch.Tensor, match: str, tmp_path: Path
    ) -> None:
        assert_refused(put(tmp_path, as_bytes({**STATE, "x": tensor})), match)

    def test_a_safetensors_header_that_lies(self, tmp_path: Path) -> None:
        header = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
        lie = struct.pack("<Q", len(header)) + header + bytes(16)
        assert_refused(put(tmp_path, lie, "w.safetensors"), "damaged")
        assert_refused(put(tmp_path, b"\xff" * 20, "w.safetensors"), "damaged")

    def test_says_what_to_install_without_torch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        assert_refused(put(tmp_path, DAMAGED["zip"]), r'pip install "multibox\[train\]"')
        assert_is_state(read_state_dict(put(tmp_path, DAMAGED["safetensors"], "w.bin")))


DAMAGED = {
    "zip": as_bytes(STATE),
    "legacy": as_bytes(STATE, legacy=True),
    "safetensors": to_safetensors(STATE),
}


def read_or_refuse(path: Path) -> None:
    message = ""
    try:
        read_state_dict(path)
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("kind", DAMAGED)
class TestDamage:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.floats(0, 1, exclude_max=True))
    @example(cut=0.999)
    def test_a_truncated_file_is_refused(self, kind: str, cut: float, tmp_path: Path) -> None:
        whole = DAMAGED[kind]
        path = put(tmp_path, whole[: int(cut * len(whole))])
        with pytest.raises(InputError) as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
                       min_size=1, max_size=4)
    )  # fmt: skip
    def test_flipped_bytes_give_arrays_or_one_line(
        self, kind: str, flips: list[tuple[float, int]], tmp_path: Path
    ) -> None:
        damaged = bytearray(DAMAGED[kind])
        for place, mask in flips:
            damaged[int(place * len(damaged))] ^= mask
        read_or_refuse(put(tmp_path, bytes(damaged)))
