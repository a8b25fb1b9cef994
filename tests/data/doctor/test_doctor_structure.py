"""Animations, files named for another format, and where pictures end."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from damaged_sets import encode, pixels

from multibox.data.doctor.pictures import look_at
from multibox.data.doctor.structure import Damage, frames, missing_end

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def gif(images: int, table: bool = True, comment: bool = True) -> bytes:
    """GIF89a by its specification: each frame 1 x 1 pixels of a two-colour table."""
    colours = b"\0\0\0\xff\xff\xff"
    blocks = b"!\xfe\x05, ; !\0" if comment else b""  # a comment that holds the marks of others
    frame = b"!\xf9\x04\0\x0a\0\0\0" + b",\0\0\0\0\x01\0\x01\0"
    frame += (b"\0" if table else b"\x80" + colours) + b"\x02\x02\x44\x01\0"
    head = b"GIF89a\x01\0\x01\0" + (b"\x80\0\0" + colours if table else b"\0\0\0")
    return head + blocks + frame * images + b";"


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def animated_png(images: int) -> bytes:
    whole = encode(".png", pixels("a"))
    after_header = len(SIGNATURE) + 25
    control = chunk(b"acTL", struct.pack(">II", images, 0))
    return whole[:after_header] + control + whole[after_header:]


def animated_webp(images: int) -> bytes:
    def riff(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    body = b"WEBP" + riff(b"VP8X", b"\x02" + b"\0" * 9) + riff(b"ANIM", b"\0" * 6)
    body += riff(b"ANMF", b"\0" * 17) * images  # of odd length, so that each is padded
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("comment", [True, False])
def test_frames_of_a_gif(count, table, comment):
    assert frames(gif(count, table, comment), "gif") == count


@pytest.mark.parametrize("count", [1, 3])
def test_frames_of_png_and_webp(count):
    assert frames(animated_png(count), "png") == count
    assert frames(animated_webp(count), "webp") == count


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".bmp"])
def test_what_opencv_writes_is_one_picture(suffix):
    format = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".bmp": "bmp"}[suffix]
    assert frames(encode(suffix, pixels("a")), format) == 1


@pytest.mark.parametrize("data", [gif(3), animated_png(3), animated_webp(3)])
@pytest.mark.parametrize("format", ["gif", "png", "webp"])
def test_counting_frames_ends_for_every_prefix_and_every_format(data, format):
    for length in range(len(data)):
        assert frames(data[:length], format) >= 1


def test_an_animation_is_unusual(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(animated_png(5))
    ((kind, is_error, what, _),) = look_at(path).faults
    assert (kind, is_error) == ("unusual-image", False)
    assert "animation of 5 frames, of which the first is used" in what


@pytest.mark.parametrize(
    ("encoded_as", "named", "said"),
    [
        (".png", "a.jpg", "a PNG file named .jpg"),
        (".jpg", "a.PNG", "a JPEG file named .png"),
        (".webp", "a.jpeg", "a WebP file named .jpeg"),
        (".bmp", "a.tiff", "a BMP file named .tiff"),
    ],
)
def test_a_picture_named_for_another_format(tmp_path, encoded_as, named, said):
    path = tmp_path / named
    path.write_bytes(encode(encoded_as, pixels("a")))
    ((kind, is_error, what, remedy),) = look_at(path).faults
    assert (kind, is_error, what) == ("unusual-image", False, said)
    assert "rename" in remedy
    assert look_at(path).usable


@pytest.mark.parametrize(
    ("encoded_as", "named"),
    [
        (".jpg", "a.JPG"), (".jpg", "a.jpeg"), (".jpg", "a.jfif"), (".png", "a.Png"),
        (".tiff", "a.tif"), (".bmp", "a.bmp"), (".ppm", "a.pnm"), (".webp", "a.WEBP"),
    ],
)  # fmt: skip
def test_every_usual_name_of_a_format_is_fine(tmp_path, encoded_as, named):
    path = tmp_path / named
    path.write_bytes(encode(encoded_as, pixels("a")))
    assert look_at(path).faults == []


def test_a_thumbnail_with_an_end_is_not_taken_for_the_picture_s_end(tmp_path):
    thumbnail = encode(".jpg", pixels("a", 16, 12))
    whole = encode(".jpg", pixels("a", 200, 150))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert look_at(path).faults == []
    path.write_bytes(data[:-500])
    assert [fault[0] for fault in look_at(path).faults] == ["truncated-image"]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_progressive_jpeg_that_is_cut_off(tmp_path, share):
    done, data = cv2.imencode(".jpg", pixels("a", 200, 150), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    path = tmp_path / "a.jpg"
    path.write_bytes(data.tobytes()[: int(len(data) * share)])
    assert [fault[0] for fault in look_at(path).faults] == ["truncated-image"]


def test_restart_markers_and_fill_bytes_are_no_end():
    done, data = cv2.imencode(".jpg", pixels("a", 200, 150), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])
    assert done
    whole = data.tobytes()
    assert whole.count(b"\xff\xd0") > 1
    assert missing_end(whole, "jpeg") is None
    assert missing_end(whole[:-2] + b"\xff\xff\xff\xd9", "jpeg") is None
    assert missing_end(whole[:-2], "jpeg") == "no end-of-image marker"


def test_every_flipped_bit_of_a_small_png_is_a_fault(tmp_path):
    whole = encode(".png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    path = tmp_path / "a.png"
    for place in range(len(SIGNATURE), len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(data)
        assert look_at(path).faults, f"byte {place}"


def test_a_wrong_checksum_names_its_chunk():
    whole = bytearray(encode(".png", pixels("a")))
    whole[len(SIGNATURE) + 8 + 13] ^= 1  # the first byte of IHDR's checksum
    with pytest.raises(Damage, match="IHDR"):
        missing_end(bytes(whole), "png")
