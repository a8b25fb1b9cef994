"""Pictures whose structure is sound and whose sizes, chunks, tags or scans are lies or bombs."""

import struct
import zlib

from fuzz_choices import Mutation, Rng, pick


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        parts.append(struct.pack(">I", len(body)) + kind + body + checksum)
    return b"".join(parts)


def _png_size(data: bytes, rng: Rng) -> bytes:
    """Another size, depth, colour type or interlacing, with its checksum right."""
    chunks = _png_chunks(data)
    if not chunks or len(chunks[0][1]) < 13:
        return data
    body = bytearray(chunks[0][1])
    if rng.random() < 0.6:
        sides = (1, 0, 24, 9_000, 10_000, 65_535, 1_000_000, 2**31 - 1)
        body[:8] = struct.pack(">II", pick(rng, sides), pick(rng, sides))
    else:
        body[8] = pick(rng, (1, 2, 4, 8, 16, 3, 255))
        body[9] = pick(rng, (0, 2, 3, 4, 6, 1, 7))
        body[12] = pick(rng, (0, 1, 9))
    return _png([(chunks[0][0], bytes(body)), *chunks[1:]])


def _png_bomb(data: bytes, rng: Rng) -> bytes:
    """Chunks that unpack to megabytes, many of them, or an image whose rows never end."""
    chunks = _png_chunks(data) or [(b"IHDR", bytes(13))]
    packed = zlib.compress(bytes(int(rng.integers(1, 30)) << 20), 9)
    extra: list[tuple[bytes, bytes]] = [
        (b"zTXt", b"k\0\0" + packed), (b"iCCP", b"k\0\0" + packed),
        (b"iTXt", b"k\0\1\0\0\0" + packed), (b"IDAT", packed),
        (b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**30, 2**30, 0, 0, 1, 1, 0, 0)),
        (b"PLTE", bytes(3 * 256)), (b"tRNS", bytes(256)), (b"sPLT", b"k\0\x10" + bytes(1000)),
        (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(200)),
    ]  # fmt: skip
    place = int(rng.integers(1, len(chunks) + 1))
    chunks[place:place] = [pick(rng, extra)] * int(pick(rng, (1, 1, 2, 30)))
    return _png(chunks)


def _png_order(data: bytes, rng: Rng) -> bytes:
    chunks = _png_chunks(data) or [(b"IHDR", bytes(13))]
    if rng.random() < 0.5:
        chunks = [chunks[i] for i in rng.permutation(len(chunks))]
    else:
        chunks.insert(int(rng.integers(len(chunks) + 1)), pick(rng, chunks))
    return _png(chunks)


def _jpeg_segments(data: bytes) -> list[bytes]:
    """The segments up to the first scan, and the rest in one piece."""
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        parts.append(data[at : at + 2 + length])
        at += 2 + length
    return [*parts, data[at:]]


def _jpeg_frame(data: bytes, rng: Rng) -> bytes:
    """Another size, precision, number of components or kind of coding in the start of the frame."""
    parts = _jpeg_segments(data)
    for i, part in enumerate(parts):
        if len(part) > 9 and part[0] == 0xFF and part[1] in (0xC0, 0xC1, 0xC2):
            frame = bytearray(part)
            sides = (0, 1, 18, 9_999, 10_000, 65_535)
            if rng.random() < 0.6:
                frame[5:9] = struct.pack(">HH", pick(rng, sides), pick(rng, sides))
            else:
                frame[1] = int(rng.integers(0xC0, 0xD0))
                place = int(pick(rng, (4, 9, 11, 14)))
                if place < len(frame):
                    frame[place] = pick(rng, (0, 1, 4, 8, 12, 0x11, 0x22, 0x41, 0x44, 0xFF))
            parts[i] = bytes(frame)
    return b"".join(parts)


def _jpeg_order(data: bytes, rng: Rng) -> bytes:
    parts = _jpeg_segments(data)
    inner = parts[1:-1]
    if not inner:
        return data
    if rng.random() < 0.5:
        inner = [inner[i] for i in rng.permutation(len(inner))]
    else:
        extra = pick(rng, (
            pick(rng, inner), b"\xff" * 5000, b"\xff\xfe\0\2" * 12_000, b"\xff\xe1\0\x08Exif\0\0",
            b"\xff\xdd\0\4\0\1", b"\xff\xe1\xff\xffExif\0\0MM\0*\xff\xff\xff\xf0" + bytes(65_519),
        ))  # fmt: skip
        inner.insert(int(rng.integers(len(inner) + 1)), extra)
    return b"".join([parts[0], *inner, parts[-1]])


def _jpeg_scans(data: bytes, rng: Rng) -> bytes:
    """The last scan, again and again."""
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:end] + data[start:end] * int(rng.integers(2, 2000)) + b"\xff\xd9"


def _riff(data: bytes, rng: Rng) -> bytes:
    """Chunks of a WebP changed about, or another canvas, with the lengths right."""
    at, chunks = 12, []
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    chunks = chunks or [(b"VP8 ", bytes(10))]
    side = pick(rng, (0, 23, 9_999, 16_383, 2**24 - 1))
    canvas = bytes([int(rng.integers(64)), 0, 0, 0]) + 2 * side.to_bytes(3, "little")
    extra = [(b"VP8X", canvas), (b"EXIF", b"II*\0\xff\xff\xff\x7f"), (b"ALPH", bytes(9)),
             (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + data[12:]),
             (b"ICCP", bytes(3000))]  # fmt: skip
    if rng.random() < 0.5:
        chunks.insert(0 if rng.random() < 0.6 else len(chunks), pick(rng, extra))
    else:
        chunks = [chunks[i] for i in rng.integers(0, len(chunks), len(chunks) + 1)]
    body = b"".join(k + struct.pack("<I", len(b)) + b + bytes(len(b) & 1) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _tiff_tag(data: bytes, rng: Rng) -> bytes:
    """A tag of the first directory with another type, count or value."""
    if len(data) < 8:
        return data
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return data
    (count,) = struct.unpack_from(order + "H", data, at)
    place = at + 2 + 12 * int(rng.integers(max(count, 1)))
    if place + 12 > len(data):
        return data
    tag, kind, values, value = struct.unpack_from(order + "HHII", data, place)
    values = pick(rng, (values, values, 0, 2, 2**31, 2**32 - 1))
    value = pick(rng, (value, 0, 1, 9_999, 32_946, at, 2**16, 2**31 - 1, 2**32 - 1))
    kind = pick(rng, (kind, kind, 1, 3, 4, 5, 16))
    if rng.random() < 0.3:
        tag = pick(rng, (256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 339))
    new = struct.pack(order + "HHII", tag, kind, values, value)
    return data[:place] + new + data[place + 12 :]


def _avif_size(data: bytes, rng: Rng) -> bytes:
    """Another size in one of the places that tell it, or a box before all others."""
    places = [i for i in range(len(data) - 12) if data[i : i + 4] == b"ispe"]
    if places and rng.random() < 0.7:
        sides = (0, 1, 24, 9_999, 65_535, 2**31 - 1, 2**32 - 1)
        at = pick(rng, places) + 8
        size = struct.pack(">II", int(pick(rng, sides)), int(pick(rng, sides)))
        return data[:at] + size + data[at + 8 :]
    (length,) = struct.unpack_from(">I", data.ljust(4, b"\0"))
    free = pick(rng, (8, 0, 1, 2**31, 2**32 - 1))
    return data[:length] + struct.pack(">I4s", free, b"free") + rng.bytes(16) + data[length:]


def _disguised(data: bytes, rng: Rng) -> bytes:
    """The beginning of another format before the data, or in its place."""
    side = int(pick(rng, (1, 20, 9_999, 65_535)))
    bmp = b"BM" + struct.pack("<IHHII", 54, 0, 0, 54, 40)
    others = [
        b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HH", 65_535, 65_535) + b"\0\2\2D\1\0;",
        bmp + struct.pack("<iiHHIIiiII", side, -side, 1, 32, 1, 0, 0, 0, 0, 0),
        bmp + struct.pack("<iiHHI", side, side, 1, 8, 1) + bytes(3000),
        b"P5" + b" " * 4000 + b"x", b"P6\n#" + b"a" * 5000, b"P6\n#\r9999 9999\n1 1 255\nabc",
        b"P5 %d %d 65535\n" % (side, side), b"P3 2 2 255\n" + b"9" * 9999, b"P4 9999 9999\n",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf\0\0\0\x14ispe\0\0\0\0\0\0\0\1\0\0\0\1" + data,
        b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 \0\0\0\0jp2c\xff\x4f\xff\x51"
        + data,
        b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">IIIIIIII", side, side, 0, 0, side, side, 0, 0)
        + b"\0\3\7\1\1\7\1\1\7\1\1",
        b"II*\0\x08\0\0\0\xff\xff" + data, b"MM\0+\0\x08\0\0\0\0\0\0\0\0\0\x10" + b"\xff" * 64,
        b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/\xff\xff\xff\xff",
        b"#?RADIANCE\n\n-Y 9 +X 9\n",
        b"v/1\1\2\0\0\0", b"Y\xa6j\x95" + bytes(28), b"PF\n9 9\n-1\n", b"%PDF-1.7", b"\x1f\x8b\x08",
    ]  # fmt: skip
    return pick(rng, others)


PICTURES: dict[str, tuple[Mutation, ...]] = {
    ".png": (_png_size, _png_size, _png_bomb, _png_order, _disguised),
    ".jpg": (_jpeg_frame, _jpeg_frame, _jpeg_order, _jpeg_scans, _disguised),
    ".webp": (_riff, _riff, _disguised),
    ".tif": (_tiff_tag, _tiff_tag, _tiff_tag, _disguised),
    ".bmp": (_disguised,),
    ".gif": (_disguised,),
    ".ppm": (_disguised,),
    ".avif": (_avif_size, _avif_size, _disguised),
}
