import gzip
import io
import random
import tarfile
from contextlib import suppress

import pytest

from multibox.errors import InputError
from multibox.importers import archives
from multibox.importers.archives import extract_member

MEMBER = "ssd/frozen_inference_graph.pb"
GRAPH = random.Random(0).randbytes(5000)


def entry(name, content=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def archive_of(*entries, form=tarfile.GNU_FORMAT):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


GOOD = archive_of(
    entry("ssd", type=tarfile.DIRTYPE),
    entry("ssd/checkpoint", b"x" * 3000),
    entry(MEMBER, GRAPH),
    entry("ssd/after", b"y"),
)


def refused(tmp_path, content):
    """The one line that an archive is refused with, which leaves nothing behind."""
    archive, out = tmp_path / "archive.tar.gz", tmp_path / "out" / "graph.pb"
    archive.write_bytes(content)
    with pytest.raises(InputError) as error:
        extract_member(archive, MEMBER, out)
    assert str(error.value).startswith(str(archive))
    assert "\n" not in str(error.value)
    assert list(out.parent.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar.gz", "out"]
    return str(error.value)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_exactly_the_member_is_taken(tmp_path, form, prefix):
    archive = tmp_path / "a.tar.gz"
    long_name = entry("d/" + "n" * 90, b"z")
    archive.write_bytes(
        archive_of(long_name, entry("../evil", b"e"), entry(prefix + MEMBER, GRAPH), form=form)
    )
    extract_member(archive, MEMBER, tmp_path / "out.pb")
    assert (tmp_path / "out.pb").read_bytes() == GRAPH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "out.pb"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_what_is_no_regular_file_is_refused(tmp_path, kind):
    content = archive_of(
        entry("secret", b"s"), entry(MEMBER, type=kind, linkname="/etc/passwd"), entry(MEMBER, b"x")
    )
    assert "not a regular file" in refused(tmp_path, content)


def test_names_that_climb_are_not_the_member(tmp_path):
    for name in (f"../{MEMBER}", f"/{MEMBER}", f"ssd/../{MEMBER}", f"{MEMBER}/..", "ssd"):
        assert "has no ssd/frozen" in refused(tmp_path, archive_of(entry(name, b"x")))


def test_a_bomb_before_the_member_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 1 << 20)
    bomb = archive_of(entry("zeros", bytes(3 << 20)), entry(MEMBER, GRAPH))
    assert "unpacks to more than 1 MiB" in refused(tmp_path, bomb)


def test_a_bomb_as_the_member_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 1 << 20)
    assert "unpacks to more" in refused(tmp_path, archive_of(entry(MEMBER, bytes(2 << 20))))


@pytest.mark.parametrize("size", [2**33 - 1, 2**62, -512, -(2**40)])
@pytest.mark.parametrize("name", ["other", MEMBER])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_lies_about_its_size_is_refused(tmp_path, size, name, kind):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    header = info.tobuf(tarfile.GNU_FORMAT)
    refused(tmp_path, gzip.compress(header + bytes(4096)))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_as_long_as_memory_is_refused(tmp_path, kind):
    info = tarfile.TarInfo(MEMBER)
    info.size, info.type = 3 << 20, kind
    content = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(3 << 20), 1)
    assert "has a header of 3145728 bytes" in refused(tmp_path, content)


def test_a_sparse_member_is_refused(tmp_path):
    info = tarfile.TarInfo(MEMBER)
    info.size, info.type = 512, tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # the size that it says it has on the disk
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    assert "not a regular file" in refused(tmp_path, gzip.compress(bytes(header) + bytes(2048)))


def test_members_without_end_are_refused(tmp_path):
    many = archive_of(*(entry(f"f{i}") for i in range(1500)), entry(MEMBER, GRAPH))
    assert "not a plausible archive" in refused(tmp_path, many)


def test_long_names_chained_without_end_are_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    link = info.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    assert "damaged" in refused(tmp_path, gzip.compress(link * 5000))


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    end = len(GOOD)
    for cut in (0, 1, 9, 12, end // 3, end // 2, end - 400):
        refused(tmp_path, GOOD[:cut])
    plain = gzip.decompress(GOOD)
    at = plain.index(GRAPH)
    for cut in (511, 600, at - 600, at - 1, at + 1, at + len(GRAPH) - 1):
        refused(tmp_path, gzip.compress(plain[:cut]))


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", bytes(10000), GRAPH, gzip.compress(GRAPH)]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    refused(tmp_path, content)


def test_flipped_bytes_give_the_member_or_one_line(tmp_path):
    """Of the stream and of the headers in it: never another exception, never a wrong length."""
    generator = random.Random(1)
    plain = gzip.decompress(GOOD)
    archive, out = tmp_path / "a.tar.gz", tmp_path / "graph.pb"
    outcomes = set()
    for turn in range(200):
        content = bytearray(plain if turn % 2 else GOOD)
        end = len(content) if turn % 4 else 512
        for _ in range(generator.choice((1, 3, 20))):
            content[generator.randrange(end)] = generator.randrange(256)
        archive.write_bytes(gzip.compress(content, 1) if turn % 2 else content)
        out.unlink(missing_ok=True)
        taken = False
        with suppress(InputError):
            extract_member(archive, MEMBER, out)
            taken = True
        assert out.exists() == taken
        assert not out.exists() or out.stat().st_size <= len(plain)
        outcomes.add(taken)
    assert outcomes == {True, False}


def test_an_old_file_stays_when_the_archive_is_bad(tmp_path):
    archive, out = tmp_path / "a.tar.gz", tmp_path / "graph.pb"
    out.write_bytes(b"old")
    archive.write_bytes(GOOD[: len(GOOD) // 2])
    with pytest.raises(InputError):
        extract_member(archive, MEMBER, out)
    assert out.read_bytes() == b"old"
