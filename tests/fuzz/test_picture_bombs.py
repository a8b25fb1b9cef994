"""Pictures of a few bytes that would fill the memory, or be decoded without end."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fuzz_bombs import GIGABYTE, hollow, refused

from multibox.imaging import image_size, read_image


def png(width: int, height: int, rows: int, bits: int = 8, kind: int = 0) -> bytes:
    """A picture that claims a size and has some of its rows, all black or transparent.

    ``bits`` are those of a pixel in all; ``kind`` is PNG's colour type, grey if left out.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + width * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    samples = {0: 1, 2: 3, 6: 4}[kind]
    size = struct.pack(">IIBBBBB", width, height, bits // samples, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )  # fmt: skip


def huge_picture(folder: Path) -> Path:
    path = folder / "huge.png"
    path.write_bytes(png(50_000, 50_000, 3))
    return path


def test_a_picture_of_50_000_by_50_000(tmp_path: Path) -> None:
    path = huge_picture(tmp_path)
    line = refused(lambda: read_image(path), "more than the limit of 100,000,000")
    assert "max_pixels" in line
    assert "MULTIBOX_LIMITS" in line


def test_a_transparent_picture_just_below_the_limit_takes_a_gigabyte_at_most(
    tmp_path: Path,
) -> None:
    """400 kB of PNG: each pixel at its four bytes, and the three of the result."""
    side = 9_990
    (tmp_path / "clear.png").write_bytes(png(side, side, side, 32, kind=6))
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_PEAK, tmp_path / "clear.png"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    white, peak_bytes = map(int, done.stdout.split())
    assert white == 255
    assert peak_bytes < GIGABYTE


READ_AND_PEAK = """
import sys
from pathlib import Path
from multibox.imaging import read_image
print(read_image(sys.argv[1]).min())
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10)
"""


@pytest.mark.parametrize(("bits", "kind"), [(64, 6), (48, 2)])
def test_a_picture_of_16_bits_whose_pixels_are_few_enough_and_whose_bytes_are_not(
    tmp_path: Path, bits: int, kind: int
) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(9_990, 9_990, 3, bits, kind))
    line = refused(lambda: read_image(path), "bytes, more than the limit of 800,000,000")
    assert "MULTIBOX_LIMITS" in line


def test_a_picture_file_of_a_gigabyte(tmp_path: Path) -> None:
    path = hollow(tmp_path / "a.jpg", b"\xff\xd8\xff\xe0\xff\xff")
    for read in (read_image, image_size):
        refused(lambda read=read: read(path), "more than the limit of 800,000,000")


def progressive(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that goes over itself again and again: each scan is some 300 bytes."""
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    frame = data.index(b"\xff\xc2")
    data = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def test_a_jpeg_of_a_hundred_thousand_scans(tmp_path: Path) -> None:
    path = tmp_path / "again.jpg"
    path.write_bytes(progressive(8_000, 8_000, 100_000))
    refused(lambda: read_image(path), "too many scans")
    path.write_bytes(progressive(64, 64, 100))
    assert read_image(path).shape == (64, 64, 3)  # a small one may


def test_a_picture_of_blanks(tmp_path: Path) -> None:
    path = tmp_path / "blank.ppm"
    path.write_bytes(b"P6" + b" " * 1_000_000)
    refused(lambda: read_image(path), "damaged PNM header")
