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


def frames(data: bytes, format: str) -> int:
    """How many pictures an animation of ``format`` holds; 1 for all that is none, or is damaged."""
    count = {"gif": _gif_frames, "png": _png_frames, "webp": _webp_frames}
    try:
        return max(1, count[format](data)) if format in count else 1
    except (struct.error, IndexError):
        return 1


def _gif_frames(data: bytes) -> int:
    """Walk the blocks (GIF89a, sections 17 to 27) and count the image descriptors."""
    at = 13 + _gif_table(data[10])
    found = 0
    while data[at] != _GIF_TRAILER:
        if data[at] == _GIF_IMAGE:
            found += 1
            at += 11 + _gif_table(data[at + 9])
        elif data[at] == _GIF_EXTENSION:
            at += 2
        else:
            break
        while data[at]:  # sub-blocks, each after its length, up to an empty one
            at += 1 + data[at]
        at += 1
    return found


_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def _gif_table(flags: int) -> int:
    """The bytes of a colour table, by the flags that announce it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _png_frames(data: bytes) -> int:
    """What the chunk acTL says, which stands before the pixels of an animated PNG."""
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            return int(struct.unpack_from(">I", data, at + 8)[0])
        if kind == b"IDAT":
            return 1
        at += 12 + length


def _webp_frames(data: bytes) -> int:
    """Count the ANMF chunks of the container (RIFF: chunks are padded to even lengths)."""
    at, found = 12, 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        found += kind == b"ANMF"
        at += 8 + length + length % 2
    return found


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
