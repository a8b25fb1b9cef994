import multiprocessing
from pathlib import Path

import pytest

from multibox.data.file_cache import FileCache
from multibox.errors import ImageError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number + 1]) * 100)
    return paths


def test_a_file_is_read_once(files: list[Path]) -> None:
    cache = FileCache(4, 1000)
    contents = [path.read_bytes() for path in files]
    assert [cache.read(number, path) for number, path in enumerate(files)] == contents
    for path in files:
        path.unlink()
    assert [cache.read(number, path) for number, path in enumerate(files)] == contents


def test_no_more_is_kept_than_there_is_room_for(files: list[Path]) -> None:
    cache = FileCache(4, 250)
    for number, path in enumerate(files):
        assert len(cache.read(number, path)) == 100
    for path in files:
        path.write_bytes(b"changed")
    assert [len(cache.read(number, path)) for number, path in enumerate(files)] == [100, 100, 7, 7]
    # What is smaller still finds room, and stays.
    files[2].unlink()
    assert cache.read(2, files[2]) == b"changed"


def test_an_empty_or_missing_file_is_not_kept(files: list[Path]) -> None:
    cache = FileCache(4, 1000)
    files[0].write_bytes(b"")
    assert cache.read(0, files[0]) == b""
    files[0].write_bytes(b"filled")
    assert cache.read(0, files[0]) == b"filled"
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        cache.read(1, files[1].with_name("gone.jpg"))


def _read(cache: FileCache, paths: list[Path]) -> None:
    for number, path in enumerate(paths):
        cache.read(number, path)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_worker_reads_all_have(files: list[Path], method: str) -> None:
    context = multiprocessing.get_context(method)
    cache = FileCache(4, 1000, context)
    worker = context.Process(target=_read, args=(cache, files))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    for path in files:
        path.unlink()
    assert [cache.read(number, path)[0] for number, path in enumerate(files)] == [1, 2, 3, 4]
