import json
import os
import threading
from pathlib import Path

import pytest

from multibox.checkpoints import atomic_write, write_json


def test_the_file_appears_whole_in_a_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "state.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["state.bin"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_inside_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.bin"]


def test_what_a_killed_process_left_behind_is_used_up(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"first")
    temporary.write_bytes(b"a longer rest of a killed process")
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["state.bin"]


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.bin"
    seen = []

    def flushed(descriptor: int) -> None:
        seen.append(path.exists())

    monkeypatch.setattr("os.fsync", flushed)
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
    assert seen == [False, True]  # the file under its temporary name, then the folder


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "state.bin") as temporary:
            # As safetensors does: a file of its own that nobody else may read.
            private = tmp_path / "private"
            private.touch(0o600)
            private.replace(temporary)
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("state.bin", "plain")]
    assert modes == [0o666 & ~umask] * 2


def test_json_keeps_the_order_and_every_script(tmp_path: Path) -> None:
    path = tmp_path / "new" / "value.json"
    value = {"b": [1, 0.1, None], "a": "крыса 鼠"}
    write_json(path, value)
    text = path.read_text(encoding="utf-8")
    assert list(json.loads(text).items()) == list(value.items())
    assert "крыса 鼠" in text
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_whole_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value.json"
    write_json(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, "new")
    assert json.loads(path.read_text()) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX links and pipes")
def test_json_goes_through_links_and_pipes(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target")
    write_json(link, 1)
    assert link.is_symlink()
    assert json.loads((tmp_path / "target").read_text()) == 1

    os.mkfifo(pipe)
    writer = threading.Thread(target=write_json, args=(pipe, 2), daemon=True)
    writer.start()
    assert json.loads(pipe.read_text()) == 2
    writer.join()
    assert pipe.is_fifo()
