"""Listing, finding and reading files: names, links, sizes."""

import os
import re
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from multibox.data.files import (
    PictureIndex,
    as_text,
    child_folder,
    files_below,
    has_file_below,
    is_below,
    is_file,
    is_folder,
    name_key,
    read_label_bytes,
    read_lines,
    relative_id,
    subfolders,
    without_image_suffix,
)
from multibox.errors import InputError


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@given(st.text())
def test_a_key_is_the_same_for_every_spelling_of_a_name(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    for form in ("NFC", "NFD"):
        assert name_key(f" {normalize(form, name)}\n") == name_key(normalize("NFC", name))


@given(st.text(st.characters()))
def test_text_can_be_encoded_whatever_it_was(name: str) -> None:
    text = as_text(name)
    assert text.encode().decode() == text
    assert text == text.strip()
    if not any("\ud800" <= letter <= "\udfff" for letter in name):
        assert text == name.strip()


def test_files_are_listed_sorted_with_links_once_and_without_hidden_ones(tmp_path: Path) -> None:
    wanted = [touch(tmp_path / name) for name in ("B.JPG", "a/c.jpg", "a/d.jPg", "e f/ö.jpg")]
    for name in (".a.jpg", ".git/a.jpg", "__MACOSX/a.jpg", "a.jpg.txt", "jpg", "a/b.png"):
        touch(tmp_path / name)
    (tmp_path / "a" / "around").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    found = files_below(tmp_path, {".jpg"})
    assert found == sorted([*wanted, tmp_path / "nowhere.jpg"])
    assert has_file_below(tmp_path, {".jpg"})
    assert not has_file_below(tmp_path, {".webp"})
    assert files_below(tmp_path / "nowhere", {".jpg"}) == []


def test_folders(tmp_path: Path) -> None:
    for name in ("b", "A", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "file")
    assert [folder.name for folder in subfolders(tmp_path)] == ["A", "b"]
    assert subfolders(tmp_path / "file") == []
    assert child_folder(tmp_path, "a") == tmp_path / "A"
    assert child_folder(tmp_path, "file") is None


part = st.sampled_from(["..", ".", "a", "b", "", "...", "a..", "..a"])


@given(st.lists(part, max_size=6))
def test_below_is_what_the_parts_count_down_to(parts: list[str]) -> None:
    """By counting: a path leaves its folder where more parts go up than down, at any point or
    at its end alone, as the system itself works them out without links."""
    base = Path("/data/set")
    stack: list[str] = ["data", "set"]
    for name in parts:
        if name == "..":
            stack = stack[:-1]
        elif name not in ("", "."):
            stack.append(name)
    assert is_below(base / "/".join(["x", "..", *parts]), base) is (stack[:2] == ["data", "set"])


@pytest.mark.parametrize("name", ["/etc/passwd", "\0", "a\0b"])
def test_below_is_not_what_begins_anew_or_is_no_name(name: str) -> None:
    assert is_below(Path("/data/set") / name, Path("/data/set")) is ("\0" in name)
    assert not is_file(Path("/data/set") / name) or name == "/etc/passwd"


@pytest.mark.parametrize("name", ["a" * 300, "a" * 100_000, "a/" * 3000, "\0", "\ud800", ""])
def test_there_is_no_file_of_a_name_that_cannot_be(tmp_path: Path, name: str) -> None:
    """Where pathlib raises for some of these."""
    assert not is_file(tmp_path / name)
    assert is_folder(tmp_path / name) is (name == "")


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0")))
def test_a_suffix_goes_only_where_it_is_a_pictures(stem: str) -> None:
    assume(stem.strip(". "))
    for suffix in (".jpg", ".JPEG", ".Png"):
        assert without_image_suffix(stem + suffix) == stem
    for suffix in (".v2", ".txt", ""):
        if not re.search(r"\.[a-zA-Z0-9]+$", stem):
            assert without_image_suffix(stem + suffix) == stem + suffix


def test_ids_are_below_the_root_or_whole(tmp_path: Path) -> None:
    assert relative_id(tmp_path / "a" / "b.jpg", tmp_path) == "a/b.jpg"
    assert relative_id(Path("/elsewhere/b.jpg"), tmp_path) == "/elsewhere/b.jpg"


def index_of(*paths: str) -> PictureIndex:
    return PictureIndex(Path(path) for path in paths)


@pytest.mark.parametrize(
    ("stem", "near", "file_name", "expected"),
    [
        ("a", "x", "", "x/a.jpg"),  # of two with the stem, the one in the folder
        ("a", "y", "", "y/a.png"),
        ("a", "x", "a.png", "y/a.png"),  # the name inside the file counts for more
        ("a", "x", "C:\\old\\a.png", "y/a.png"),
        ("a", "z/y", "", "y/a.png"),  # the folder with most in common
        ("nowhere", "x", "b.bmp", "x/b.jpg"),  # another suffix than the file names
        ("nowhere", "x", "/old/c.v2.jpg", "x/c.v2.jpg"),
        ("c.v2", "x", "", "x/c.v2.jpg"),
        ("c", "x", "", None),
        ("nowhere", "x", "", None),
        ("nowhere", "x", "nothing.jpg", None),
    ],
)
def test_pictures_are_found_by_stem_then_by_file_name(
    stem: str, near: str, file_name: str, expected: str | None
) -> None:
    index = index_of("x/a.jpg", "y/a.png", "x/b.jpg", "x/c.v2.jpg")
    found = index.find(stem, near=Path(near), file_name=file_name)
    assert found == (None if expected is None else Path(expected))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0\\"), min_size=1, max_size=8))
def test_pictures_are_found_in_any_unicode_form(stem: str) -> None:
    assume(stem not in (".", "..") and not stem.endswith(".") and stem.strip() == stem)
    picture = Path(f"{normalize('NFD', stem)}.jpg")
    assume(picture.stem == normalize("NFD", stem))
    assert PictureIndex([picture]).find(normalize("NFC", stem), near=Path()) == picture


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]))))
def test_lines_are_stripped_and_empty_ones_left_out(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    for end in ("\n", "\r\n"):
        path.write_bytes(("\ufeff" + end.join(lines)).encode())
        # A mark at the very beginning is the file's, not the first line's.
        assert read_lines(path) == [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\0\0", "größe".encode("latin-1"), "cat".encode("utf-16"), b"a\0b", b"\xed\xa0\x80"],
)
def test_what_is_not_utf8_text_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = touch(tmp_path / "classes.txt", content)
    with pytest.raises(InputError, match=r"classes\.txt: not UTF-8 text: save it as UTF-8"):
        read_lines(path)


def test_sizes_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = touch(tmp_path / "labels.txt", b"x" * 11)
    assert read_label_bytes(path, 11) == b"x" * 11
    with pytest.raises(InputError, match=r"labels\.txt: a label file of 11 bytes, more than the"):
        read_label_bytes(path, 10)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(InputError, match="not a regular file"):
            read_label_bytes(path)
    with pytest.raises(InputError, match=r"gone\.txt: cannot be read \(No such file"):
        read_label_bytes(tmp_path / "gone.txt")
