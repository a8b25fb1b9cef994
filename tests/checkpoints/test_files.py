import os
from pathlib import Path

import pytest

from multibox.checkpoints import atomic_write


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
