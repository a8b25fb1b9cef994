"""Headers as bytes: boxes, tags and segments that disagree, and how much memory they foretell."""

import io
import struct
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from multibox.errors import ImageError
from multibox.image_headers import HeaderError, ImageHeader, ShortHeaderError, parse_header
from multibox.imaging import read_image

PICTURE = PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


def encoded(format: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    PICTURE.convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


FILES = {
    "jpeg": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "png": encoded("PNG"),
    "webp": encoded("WEBP"),
    "lossless": encoded("WEBP", lossless=True),
    "tiff": encoded("TIFF"),
    "bmp": encoded("BMP"),
    "gif": encoded("GIF", "P"),
    "jp2": encoded("JPEG2000"),
    "code stream": encoded("JPEG2000", no_jp2=True),
    "avif": encoded("AVIF"),
    "pnm": encoded("PPM"),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_beginning_is_short_or_enough(kind: str) -> None:
    """A part of a file tells the whole file's header, asks for more, or is no picture at all."""
    data = FILES[kind]
    whole = parse_header(data)
    assert (whole.width, whole.height) == (30, 20)
    asked = 0
    for length in range(len(data)):
        try:
            header = parse_header(data[:length])
        except ShortHeaderError:
            asked += 1
        except HeaderError:
            assert length < 64  # before the format shows
        else:
            assert (header.width, header.height) == (30, 20)
    assert asked or kind in ("gif", "pnm")


@given(kind=st.sampled_from(sorted(FILES)), data=st.data())
@settings(max_examples=300, deadline=None)
def test_changed_bytes_are_a_header_or_one_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        header = parse_header(bytes(content))
    except HeaderError:
        pass
    else:
        assert header.width > 0
        assert header.height > 0
        assert header.orientation in range(1, 9)
        assert 3 <= header.bytes_to_decode < 2**20


def box(kind: bytes, content: bytes, *, large: bool = False) -> bytes:
    if large:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


FTYP = box(b"ftyp", b"avif\0\0\0\0avifmif1")


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", struct.pack(">III", 0, width, height))


def test_the_largest_part_of_an_avif_is_its_size() -> None:
    for large in (False, True):
        data = FTYP + box(b"meta", ispe(20, 10) + ispe(3000, 2000) + ispe(4, 4), large=large)
        assert (parse_header(data).width, parse_header(data).height) == (3000, 2000)


@pytest.mark.parametrize("length", [100, 100_000])
def test_a_size_outside_of_an_avifs_meta_box_says_nothing(length: int) -> None:
    """A small one in a box that decoders pass over must not stand for the large one."""
    free = box(b"free", ispe(1, 1) + bytes(length))
    data = FTYP + free + box(b"meta", ispe(16_000, 16_000))
    assert parse_header(data).width == 16_000
    with pytest.raises(ImageError, match="16000 x 16000 pixels"):
        read_image(data)


def test_avifs_without_a_size() -> None:
    with pytest.raises(ShortHeaderError):
        parse_header(FTYP)
    with pytest.raises(ShortHeaderError):
        parse_header(FTYP + box(b"meta", ispe(4, 4))[:-1])
    with pytest.raises(HeaderError, match="without a size"):
        parse_header(FTYP + box(b"meta", b""))
    with pytest.raises(HeaderError, match="negative size"):
        parse_header(FTYP + struct.pack(">I4s", 3, b"free") + bytes(100))


def test_a_code_stream_before_the_real_one_says_nothing() -> None:
    data = FILES["jp2"]
    place = data.index(b"jp2c") - 4
    decoy = box(
        b"uuid", b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, 1, 1, 0, 0) + bytes(40)
    )
    header = parse_header(data[:place] + decoy + data[place:])
    assert (header.width, header.height) == (30, 20)


def tiff(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, kind, count, value in entries
    )
    return mark + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("widths", [(10, 40_000), (40_000, 10)])
def test_of_two_widths_of_a_tiff_the_larger_counts(order: str, widths: tuple[int, int]) -> None:
    """Decoders differ in which they take."""
    entries = [(256, 3, 1, width) for width in widths]
    assert parse_header(tiff(*entries, (257, 3, 1, 9), order=order)).width == 40_000


def test_tiffs_without_a_size_or_with_too_many_tags() -> None:
    with pytest.raises(HeaderError, match="without width or height"):
        parse_header(tiff((256, 3, 1, 5), (257, 2, 1, 5)))
    with pytest.raises(HeaderError, match="without width or height"):
        parse_header(tiff((256, 3, 0, 5), (257, 3, 1, 5)))
    began = time.process_time()
    with pytest.raises(HeaderError, match="more than 10,000 blocks"):
        parse_header(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**62) + bytes(100_000))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "data",
    [
        b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(99),
        b"MM\0+" + struct.pack(">HHQ", 8, 0, 2**63) + bytes(99),
        FTYP + struct.pack(">I4sQ", 1, b"free", 2**64 - 1) + bytes(99),
    ],
    ids=["BigTIFF", "BigTIFF of the other order", "box"],
)
def test_offsets_that_no_file_can_have_lie_beyond_the_end(data: bytes) -> None:
    with pytest.raises(ShortHeaderError):
        parse_header(data)


def test_exif_whose_offset_no_file_can_have_means_upright() -> None:
    block = b"Exif\0\0MM\0+" + struct.pack(">HHQ", 8, 0, 2**64 - 1)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    assert parse_header(FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]).orientation == 1


@pytest.mark.parametrize(
    "data",
    [
        b"P5" + b" " * 4000 + b"x",
        b"P6 " + b"\n" * 3000 + b"9" + b"\t" * 900 + b"y",
        b"P5" + b"#\n" * 2000 + b"x",
        b"P5 12" + b" #" * 2000,
    ],
)
def test_white_space_without_end_takes_no_time(data: bytes) -> None:
    """Tried in every possible way, forty blanks took hours."""
    began = time.process_time()
    with pytest.raises(HeaderError):
        parse_header(data)
    assert time.process_time() - began < 1


def test_a_comment_of_a_pnm_ends_with_its_line_however_lines_end() -> None:
    for end in (b"\n", b"\r", b"\r\n"):
        header = parse_header(b"P6" + end + b"# 9999 9999" + end + b"3 2 255\n" + bytes(18))
        assert (header.width, header.height) == (3, 2)


@pytest.mark.parametrize(
    "between",
    [b"\xff" * 1_000_000, b"\xff\x01" * 9_000, b"\xff\xfe\0\2" * 9_000, b""],
    ids=["fill bytes", "markers", "comments", "nothing"],
)
def test_much_before_the_frame_of_a_jpeg_is_passed_over(between: bytes) -> None:
    data = FILES["jpeg"]
    began = time.process_time()
    header = parse_header(data[:2] + between + data[2:])
    assert (header.width, header.height) == (30, 20)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "data",
    [
        FILES["jpeg"][:2] + b"\xff\xfe\0\2" * 11_000 + FILES["jpeg"][2:],
        FILES["png"][:33] + (bytes(4) + b"teXt" + bytes(4)) * 11_000 + FILES["png"][33:],
        FTYP + box(b"free", b"") * 11_000 + box(b"meta", ispe(3, 3)),
    ],
    ids=["jpeg", "png", "avif"],
)
def test_segments_without_end_are_refused(data: bytes) -> None:
    with pytest.raises(HeaderError, match="more than 10,000 blocks in its header"):
        parse_header(data)


def test_a_frame_without_components_is_no_reason_to_fail() -> None:
    data = bytearray(FILES["progressive"])
    frame = data.index(b"\xff\xc2")
    data[frame + 9] = 0
    assert parse_header(bytes(data)).width == 30
    with pytest.raises(ImageError):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FILES["jpeg"], 3),
        (encoded("JPEG", "L"), 3),
        (encoded("JPEG", "L", progressive=True), 3 + 2),
        (encoded("JPEG", progressive=True, subsampling=0), 3 + 6),
        (encoded("JPEG", progressive=True, subsampling=2), 3 + 3),
        (encoded("JPEG", "CMYK", progressive=True, subsampling=0), 3 + 8),
        (FILES["png"], 4 + 3),
        (cv2.imencode(".png", np.zeros((20, 30, 3), np.uint16))[1].tobytes(), 8 + 3),
        (encoded("TIFF"), 2 * 3 + 3),
        (cv2.imencode(".tif", np.zeros((20, 30, 4), np.uint16))[1].tobytes(), 2 * 8 + 3),
    ],
)  # fmt: skip
def test_what_decoding_takes_is_known_from_the_header(data: bytes, expected: float) -> None:
    assert parse_header(data).bytes_to_decode == expected


def test_headers_are_equal_whatever_decoding_takes() -> None:
    assert ImageHeader("jpeg", 3, 4) == ImageHeader("jpeg", 3, 4, 1, 99)
    assert ImageHeader("jpeg", 3, 4) != ImageHeader("jpeg", 3, 4, 6)
