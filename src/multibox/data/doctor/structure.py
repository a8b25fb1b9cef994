"""Whether a picture file is whole, by its structure: decoders fill in what is missing and go on."""

import re
import struct
import zlib

# What ends a stretch of a JPEG's compressed data: no stuffed zero, no restart, no fill byte.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


class Damage(Exception):
    """The file's structure is damaged although nothing is missing at its end."""


def missing_end(data: bytes, format: str) -> str | None:
    """What a picture file lacks at its end, in words, or None where it seems whole.

    ``format`` is as in ``ImageHeader``; those without an end to look for are taken as whole.
    Raises Damage for a checksum that is wrong.
    """
    look = {"jpeg": _jpeg, "png": _png, "webp": _webp, "bmp": _bmp, "gif": _gif, "pnm": _pnm}
    try:
        return look[format](data) if format in look else None
    except (struct.error, IndexError):
        return "it ends in the middle of a header"


def _jpeg(data: bytes) -> str | None:
    """Walk the segments (ITU-T T.81, annex B) up to the end-of-image marker."""
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            found = _NEXT_MARKER.search(data, at)
            if found is None:
                return "no end-of-image marker"
            at = found.start()
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == _END_OF_IMAGE:
            return None
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + length
            if marker == _START_OF_SCAN:
                found = _NEXT_MARKER.search(data, at)
                if found is None:
                    return "no end-of-image marker"
                at = found.start()
    return "no end-of-image marker"


def _png(data: bytes) -> str | None:
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return "it ends in the middle of its pixels" if kind == b"IDAT" else "no IEND chunk"
        (expected,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(data[at + 4 : end - 4]) != expected:
            raise Damage(f"the checksum of its {kind.decode('latin-1')!a} chunk is wrong")
        if kind == b"IEND":
            return None
        at = end
    return "no IEND chunk"


def _webp(data: bytes) -> str | None:
    (size,) = struct.unpack_from("<I", data, 4)
    return f"{8 + size - len(data):,} bytes missing" if 8 + size > len(data) else None


def _bmp(data: bytes) -> str | None:
    (offset, header_size) = struct.unpack_from("<II", data, 10)
    if header_size < 40:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3):
        return None
    stride = (width * bits + 31) // 32 * 4
    missing = offset + stride * abs(height) - len(data)
    return f"{missing:,} bytes missing" if missing > 0 else None


def _gif(data: bytes) -> str | None:
    return None if data.rstrip(b"\0").endswith(b";") else "no trailer"


def _pnm(data: bytes) -> str | None:
    """The binary kinds, whose pixels take a known number of bytes."""
    kind = data[1:2]
    fields = re.match(rb"P[1-6]" + rb"(?:\s+|#[^\n]*\n)+(\d+)" * (2 if kind == b"4" else 3), data)
    if kind not in (b"4", b"5", b"6") or not fields:
        return None
    width, height = int(fields[1]), int(fields[2])
    if kind == b"4":
        size = (width + 7) // 8 * height
    else:
        size = width * height * (3 if kind == b"6" else 1) * (2 if int(fields[3]) > 255 else 1)
    missing = fields.end() + 1 + size - len(data)
    return f"{missing:,} bytes missing" if missing > 0 else None
