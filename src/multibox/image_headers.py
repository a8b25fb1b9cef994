"""What a picture's first bytes say: its format, its size and how it has to be turned.

Reading them takes microseconds where decoding takes milliseconds, and a file of a few kilobytes
that claims 30,000 x 30,000 pixels is recognised before any memory is given to it.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

SWAPPING_ORIENTATIONS = frozenset({5, 6, 7, 8})
"""The EXIF orientations that exchange width and height."""

_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 0x0100, 0x0101
_EXIF_PREFIX = b"Exif\0\0"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}


class HeaderError(ValueError):
    """The bytes are no picture of a known format, or its header is damaged."""


class ShortHeaderError(HeaderError):
    """The header goes on beyond the bytes at hand: read more of the file and try again."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size as stored (pixels, before turning) and EXIF orientation (1..8, 1 = upright)."""

    format: str
    width: int
    height: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as it is meant to be seen."""
        if self.orientation in SWAPPING_ORIENTATIONS:
            return self.height, self.width
        return self.width, self.height


def parse_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG 2000 or PNM picture.

    ``data`` is the file or its beginning. Raises ShortHeaderError where more of the file is
    needed, HeaderError where the bytes are none of these formats.
    """
    for signature, parse in _PARSERS:
        if signature.match(data):
            try:
                header = parse(data)
            except (struct.error, IndexError) as error:
                raise ShortHeaderError("the header is cut off") from error
            if header.width <= 0 or header.height <= 0:
                raise HeaderError(f"the header claims {header.width} x {header.height} pixels")
            return header
    raise HeaderError("not a picture of a known format")


def _jpeg(data: bytes) -> ImageHeader:
    orientation = 0
    at = 2
    while True:
        if data[at] != 0xFF:
            raise HeaderError("damaged JPEG header")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return ImageHeader("jpeg", width, height, orientation or 1)
        if marker == 0xE1 and not orientation and data[at + 4 : at + 10] == _EXIF_PREFIX:
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length


def _png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
            return ImageHeader("png", width, height, orientation)
        if kind in (b"IDAT", b"IEND"):
            return ImageHeader("png", width, height)
        at += 12 + length


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise HeaderError("damaged WebP header")
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    has_exif = data[20] & 0x08
    orientation = _webp_exif(data) if has_exif else 1
    return ImageHeader("webp", width, height, orientation)


def _webp_exif(data: bytes) -> int:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    at = 30
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            block = data[at + 8 : at + 8 + length]
            return _exif_orientation(block.removeprefix(_EXIF_PREFIX))
        at += 8 + length + (length & 1)
    return 1


def _bmp(data: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageHeader("bmp", width, abs(height))  # a negative height: rows run downwards


def _gif(data: bytes) -> ImageHeader:
    return ImageHeader("gif", *struct.unpack_from("<HH", data, 6))


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data)
    if _WIDTH_TAG not in tags or _HEIGHT_TAG not in tags:
        raise HeaderError("a TIFF without width or height")
    orientation = tags.get(_ORIENTATION_TAG, 1)
    return ImageHeader("tiff", tags[_WIDTH_TAG], tags[_HEIGHT_TAG], _valid(orientation))


def _avif(data: bytes) -> ImageHeader:
    # Tiles, thumbnails and the alpha plane have their own "ispe": the largest is the picture.
    sizes = [
        struct.unpack_from(">II", data, m.end() + 4) for m in re.finditer(b"ispe", data[:65536])
    ]
    if not sizes:
        raise ShortHeaderError("an AVIF without a size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return ImageHeader("avif", width, height)


def _jpeg2000(data: bytes) -> ImageHeader:
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        raise ShortHeaderError("a JPEG 2000 without a code stream")
    width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
    return ImageHeader("jpeg2000", width - left, height - top)


def _pnm(data: bytes) -> ImageHeader:
    found = re.match(rb"P[1-6](?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s", data[:4096])
    if not found:
        raise HeaderError("damaged PNM header")
    return ImageHeader("pnm", int(found[1]), int(found[2]))


def _exif_orientation(block: bytes) -> int:
    """The orientation of an EXIF block; 1 where the block is damaged or says nothing valid."""
    try:
        return _valid(_tiff_tags(block).get(_ORIENTATION_TAG, 1))
    except (struct.error, HeaderError):
        return 1


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The whole-number tags of the first directory of a TIFF, BigTIFF or EXIF block."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise HeaderError("damaged TIFF header")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    entry, offset = ("HHQ", "Q") if big else ("HHI", "I")
    (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    head, step = struct.calcsize(order + entry), 20 if big else 12
    tags = {}
    for place in range(at, at + count * step, step):
        tag, kind, values = struct.unpack_from(order + entry, data, place)
        if values == 1 and kind in (3, 4, 16):  # SHORT, LONG, LONG8
            form = {3: "H", 4: "I", 16: "Q"}[kind]
            (tags[tag],) = struct.unpack_from(order + form, data, place + head)
    return tags


_PARSERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], ImageHeader]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"), _tiff),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), _avif),
    (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "), _jpeg2000),
    (re.compile(rb"P[1-6][\s#]"), _pnm),
)
