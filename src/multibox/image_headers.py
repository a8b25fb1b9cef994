"""What a picture's first bytes say: its format, its size and how it has to be turned.

Reading them takes microseconds where decoding takes milliseconds, and a file of a few kilobytes
that claims 30,000 x 30,000 pixels is recognised before any memory is given to it.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

SWAPPING_ORIENTATIONS = frozenset({5, 6, 7, 8})
"""The EXIF orientations that exchange width and height."""

_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 0x0100, 0x0101
_BITS_TAG, _SAMPLES_TAG = 0x0102, 0x0115
_EXIF_PREFIX = b"Exif\0\0"
_RGB = 3  # bytes of a pixel of what comes of it in the end
_JPEG_SCAN = b"\xff\xda"
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}
_JPEG_MARKER = re.compile(rb"\xff+[^\xff]", re.DOTALL)
_CODE_STREAM = b"\xff\x4f\xff\x51"
# One space at a time: runs within runs would be tried in every possible way.
_PNM_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_MOST_BLOCKS = 10_000  # segments, chunks or tags before the size is known; honest files have tens


class HeaderError(ValueError):
    """The bytes are no picture of a known format, or its header is damaged."""


class ShortHeaderError(HeaderError):
    """The header goes on beyond the bytes at hand: read more of the file and try again."""


def _too_many() -> HeaderError:
    return HeaderError(f"more than {_MOST_BLOCKS:,} blocks in its header")


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size as stored (pixels, before turning) and EXIF orientation (1..8, 1 = upright).

    ``bytes_to_decode`` is about the most memory that a pixel takes while the picture is decoded,
    the upright RGB of 8 bits that comes of it included.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    bytes_to_decode: float = field(default=8, compare=False)

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
            except (struct.error, IndexError, OverflowError) as error:  # all: beyond the end
                raise ShortHeaderError("the header is cut off") from error
            if header.width <= 0 or header.height <= 0:
                raise HeaderError(f"the header claims {header.width} x {header.height} pixels")
            return header
    raise HeaderError("not a picture of a known format")


def _jpeg(data: bytes) -> ImageHeader:
    orientation = 0
    at = 2
    for _ in range(_MOST_BLOCKS):
        found = _JPEG_MARKER.match(data, at)  # with any number of fill bytes before it
        if found is None:
            if data[at : at + 1] in (b"", b"\xff"):
                raise ShortHeaderError("the header is cut off")
            raise HeaderError("damaged JPEG header")
        at = found.end() - 2
        marker = data[at + 1]
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            upright = orientation or 1
            memory = _RGB * (1 if upright == 1 else 3) + _jpeg_coefficients(data, at, marker)
            return ImageHeader("jpeg", width, height, upright, memory)
        if marker == 0xE1 and not orientation and data[at + 4 : at + 10] == _EXIF_PREFIX:
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    raise _too_many()


def _jpeg_coefficients(data: bytes, at: int, marker: int) -> float:
    """Bytes for each pixel of the coefficients, which are kept where there are several scans."""
    if marker not in _PROGRESSIVE and data.count(_JPEG_SCAN) < 2:
        return 0
    components = data[at + 9]
    factors = [data[at + 11 + 3 * i] for i in range(components)]
    samples = sum((factor >> 4) * (factor & 15) for factor in factors)
    across = max((factor >> 4 for factor in factors), default=1)
    down = max((factor & 15 for factor in factors), default=1)
    return 2 * samples / max(across * down, 1)


def jpeg_scans(data: bytes) -> int:
    """How often a JPEG goes over its picture; those of its thumbnails are counted as well."""
    return data.count(_JPEG_SCAN)


def _png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    decoded = 8 if data[24] == 16 else 4  # four channels at most
    orientation = 1
    at = 8
    for _ in range(_MOST_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        elif kind == b"acTL":  # an animation: its canvas, and the frame drawn on it
            decoded *= 3
        elif kind in (b"IDAT", b"IEND"):
            return ImageHeader("png", width, height, orientation, decoded + _RGB)
        at += 12 + length
    raise _too_many()


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1, 8 + _RGB)
    if kind != b"VP8X":
        raise HeaderError("damaged WebP header")
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    has_exif = data[20] & 0x08
    orientation = _webp_exif(data) if has_exif else 1
    return ImageHeader("webp", width, height, orientation, 8 + _RGB)


def _webp_exif(data: bytes) -> int:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    at = 30
    for _ in range(_MOST_BLOCKS):
        if at + 8 > end:
            return 1
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            block = data[at + 8 : at + 8 + length]
            return _exif_orientation(block.removeprefix(_EXIF_PREFIX))
        at += 8 + length + (length & 1)
    raise _too_many()


def _bmp(data: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageHeader("bmp", width, abs(height))  # a negative height: rows run downwards


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("gif", width, height, 1, 12 + _RGB)  # canvas, frame, and the codes of it


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data)
    if _WIDTH_TAG not in tags or _HEIGHT_TAG not in tags:
        raise HeaderError("a TIFF without width or height")
    orientation = tags.get(_ORIENTATION_TAG, 1)
    samples, bits = max(tags.get(_SAMPLES_TAG, 1), 3), tags.get(_BITS_TAG, 8)
    decoded = 2 * samples * max(bits, 8) / 8  # the picture, and one strip that may be all of it
    return ImageHeader(
        "tiff", tags[_WIDTH_TAG], tags[_HEIGHT_TAG], _valid(orientation), decoded + _RGB
    )


def _avif(data: bytes) -> ImageHeader:
    # Tiles, thumbnails and the alpha plane have their own "ispe": the largest is the picture.
    start, end = _box(data, b"meta")
    meta = data[start:end]
    if len(meta) < end - start:
        raise ShortHeaderError("the header is cut off")
    sizes = [struct.unpack_from(">II", meta, m.end() + 4) for m in re.finditer(b"ispe", meta)]
    if not sizes:
        raise HeaderError("an AVIF without a size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return ImageHeader("avif", width, height, 1, 13 + _RGB)  # four planes of 16 bits, RGB and alpha


def _jpeg2000(data: bytes) -> ImageHeader:
    at = 0 if data.startswith(_CODE_STREAM) else _box(data, b"jp2c")[0]
    if len(data) < at + 42:
        raise ShortHeaderError("the header is cut off")
    if not data.startswith(_CODE_STREAM, at):
        raise HeaderError("a JPEG 2000 without a code stream")
    width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
    (components,) = struct.unpack_from(">H", data, at + 40)
    memory = 8 * max(components, 1) + 4 + _RGB  # whole numbers of 32 bits, and where they come from
    return ImageHeader("jpeg2000", width - left, height - top, 1, memory)


def _box(data: bytes, wanted: bytes) -> tuple[int, int]:
    """Where the content of the first top-level box of a kind begins and ends (ISO 14496-12, 4.2).

    Raises HeaderError where there is none, struct.error where the data ends before it.
    """
    at = 0
    for _ in range(_MOST_BLOCKS):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:  # to the end of the file
            size = max(len(data) - at, head)
        if kind == wanted:
            return at + head, at + size
        if size < head:
            raise HeaderError("a box of a negative size")
        at += size
    raise _too_many()


def _pnm(data: bytes) -> ImageHeader:
    found = re.match(rb"P([1-6])" + _PNM_GAP + rb"(\d+)" + _PNM_GAP + rb"(\d+)\s", data[:4096])
    if not found:
        raise HeaderError("damaged PNM header")
    return ImageHeader("pnm", int(found[2]), int(found[3]), 1, 6 + _RGB)  # 16 bits perhaps


def _exif_orientation(block: bytes) -> int:
    """The orientation of an EXIF block; 1 where the block is damaged or says nothing valid."""
    try:
        return _valid(_tiff_tags(block).get(_ORIENTATION_TAG, 1))
    except (struct.error, HeaderError, OverflowError):
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
    if count > _MOST_BLOCKS:
        raise _too_many()
    at += 8 if big else 2
    head, step = struct.calcsize(order + entry), 20 if big else 12
    tags: dict[int, int] = {}
    for place in range(at, at + count * step, step):
        tag, kind, values = struct.unpack_from(order + entry, data, place)
        if kind not in (3, 4, 16) or not values:  # SHORT, LONG, LONG8
            continue
        form = order + {3: "H", 4: "I", 16: "Q"}[kind]
        start = place + head
        if values > 1 and tag == _BITS_TAG:  # one number for each sample: the first stands for all
            if values * struct.calcsize(form) > step - head:
                (start,) = struct.unpack_from(order + offset, data, start)
        elif values > 1:
            continue
        # Decoders differ in which of two tags of a name they take.
        tags[tag] = max(struct.unpack_from(form, data, start)[0], tags.get(tag, 0))
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
