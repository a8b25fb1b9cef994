"""Damage that knows the format: valid in its form, and a lie, a bomb or a riddle in what it says.

Seeded as ``fuzz_mutations`` is: ``restructured(data, suffix, number)`` is always the same bytes.
"""

import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from multibox.card import CARD_KEY

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

_NUMBERS = (
    "0", "-1", "1", "-0", "0.5", "1e400", "-1e400", "nan", "inf", "1e-400", "9" * 30, "9" * 5000,
    "0x10", "1_000", "٣", "½", "1,5", "2147483648", "9223372036854775808", "", " ", "true", "1e308",
)  # fmt: skip
_TEXTS = (
    "", " ", "\x00", "\ud800", "\ud83d\ude00", "a" * 100_000, "../../../etc/passwd", "/etc/passwd",
    "C:\\a.jpg", "a\nb", "\u202ecat", "cat\u200b", "e\u0301" * 5000, "<b>&amp;", "{}", "%s%n", ".",
    "..", "~", "null", "con", "\x1b[31m", "﷽" * 50, "file:///dev/zero", "|id", "*", "a/b", "\ufffe",
)  # fmt: skip


def restructured(data: bytes, suffix: str, number: int) -> bytes:
    """The ``number``-th lie of a file of that kind (the suffix of its name, with the dot)."""
    rng = np.random.default_rng([number, 1])
    mutations = _KINDS.get(suffix, _ANY)
    for _ in range(rng.choice([1, 1, 2, 3])):
        data = mutations[rng.integers(len(mutations))](data, rng)
    return data


def _pick(rng: Rng, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


# --- pictures -------------------------------------------------------------------------------------


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
        body[:8] = struct.pack(">II", _pick(rng, sides), _pick(rng, sides))
    else:
        body[8] = _pick(rng, (1, 2, 4, 8, 16, 3, 255))
        body[9] = _pick(rng, (0, 2, 3, 4, 6, 1, 7))
        body[12] = _pick(rng, (0, 1, 9))
    return _png([(chunks[0][0], bytes(body)), *chunks[1:]])


def _png_bomb(data: bytes, rng: Rng) -> bytes:
    """Chunks that unpack to megabytes, many of them, or an image whose rows never end."""
    chunks = _png_chunks(data)
    packed = zlib.compress(bytes(int(rng.integers(1, 30)) << 20), 9)
    extra: list[tuple[bytes, bytes]] = [
        (b"zTXt", b"k\0\0" + packed), (b"iCCP", b"k\0\0" + packed),
        (b"iTXt", b"k\0\1\0\0\0" + packed), (b"IDAT", packed), (b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**30, 2**30, 0, 0, 1, 1, 0, 0)),
        (b"PLTE", bytes(3 * 256)), (b"tRNS", bytes(256)), (b"sPLT", b"k\0\x10" + bytes(1000)),
        (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(200)),
    ]  # fmt: skip
    place = int(rng.integers(1, len(chunks) + 1))
    chunks[place:place] = [_pick(rng, extra)] * int(_pick(rng, (1, 1, 2, 30)))
    return _png(chunks)


def _png_order(data: bytes, rng: Rng) -> bytes:
    chunks = _png_chunks(data)
    if rng.random() < 0.5:
        chunks = [chunks[i] for i in rng.permutation(len(chunks))]
    else:
        chunks.insert(int(rng.integers(len(chunks) + 1)), _pick(rng, chunks))
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
                frame[5:9] = struct.pack(">HH", _pick(rng, sides), _pick(rng, sides))
            else:
                frame[1] = int(rng.integers(0xC0, 0xD0))
                place = int(_pick(rng, (4, 9, 11, 14)))
                if place < len(frame):
                    frame[place] = _pick(rng, (0, 1, 4, 8, 12, 0x11, 0x22, 0x41, 0x44, 0xFF))
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
        extra = _pick(rng, (
            _pick(rng, inner), b"\xff" * 5000, b"\xff\xfe\0\2" * 12_000, b"\xff\xe1\0\x08Exif\0\0",
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
    side = _pick(rng, (0, 23, 9_999, 16_383, 2**24 - 1))
    canvas = bytes([int(rng.integers(64)), 0, 0, 0]) + 2 * side.to_bytes(3, "little")
    extra = [(b"VP8X", canvas), (b"EXIF", b"II*\0\xff\xff\xff\x7f"), (b"ALPH", bytes(9)),
             (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + data[12:]), (b"ICCP", bytes(3000))]  # fmt: skip
    if rng.random() < 0.5:
        chunks.insert(0 if rng.random() < 0.6 else len(chunks), _pick(rng, extra))
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
    values = _pick(rng, (values, values, 0, 2, 2**31, 2**32 - 1))
    value = _pick(rng, (value, 0, 1, 9_999, 32_946, at, 2**16, 2**31 - 1, 2**32 - 1))
    kind = _pick(rng, (kind, kind, 1, 3, 4, 5, 16))
    if rng.random() < 0.3:
        tag = _pick(rng, (256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 339))
    new = struct.pack(order + "HHII", tag, kind, values, value)
    return data[:place] + new + data[place + 12 :]


def _disguised(data: bytes, rng: Rng) -> bytes:
    """The beginning of another format before the data, or in its place."""
    side = int(_pick(rng, (1, 20, 9_999, 65_535)))
    others = [
        b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HH", 65_535, 65_535) + b"\0\2\2D\1\0;",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side, -side, 1, 32, 1, 0, 0, 0, 0, 0),
        b"BM" + struct.pack("<IHHIIiiHHI", 54, 0, 0, 54, 40, side, side, 1, 8, 1) + bytes(3000),
        b"P5" + b" " * 4000 + b"x", b"P6\n#" + b"a" * 5000, b"P6\n#\r9999 9999\n1 1 255\nabc",
        b"P5 %d %d 65535\n" % (side, side), b"P3 2 2 255\n" + b"9" * 9999, b"P4 9999 9999\n",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf\0\0\0\x14ispe\0\0\0\0\0\0\0\1\0\0\0\1" + data,
        b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + b"\0\0\0\0jp2c\xff\x4f\xff\x51" + data,
        b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">IIIIIIII", side, side, 0, 0, side, side, 0, 0)
        + b"\0\3\7\1\1\7\1\1\7\1\1",
        b"II*\0\x08\0\0\0\xff\xff" + data, b"MM\0+\0\x08\0\0\0\0\0\0\0\0\0\x10" + b"\xff" * 64,
        b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/\xff\xff\xff\xff", b"#?RADIANCE\n\n-Y 9 +X 9\n",
        b"v/1\1\2\0\0\0", b"Y\xa6j\x95" + bytes(28), b"PF\n9 9\n-1\n", b"%PDF-1.7", b"\x1f\x8b\x08",
    ]  # fmt: skip
    return _pick(rng, others)


# --- text -----------------------------------------------------------------------------------------


def _number_in_text(data: bytes, rng: Rng) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return data
    match = _pick(rng, found)
    return data[: match.start()] + _pick(rng, _NUMBERS).encode() + data[match.end() :]


def _encoding(data: bytes, rng: Rng) -> bytes:
    """Other encodings, with and without saying so, and marks that belong to another."""
    text = data.decode("utf-8", "replace")
    encoding = _pick(rng, ("utf-16", "utf-16-be", "utf-32", "latin-1", "utf-7", "cp037"))
    declared = _pick(rng, ("utf-8", "UTF-16", "utf-7", "rot13", "base64", "ascii", "unicode_escape", "zip"))
    options = [
        text.encode(encoding, "replace"), b"\xef\xbb\xbf" + data, b"\xff\xfe" + data,
        f"<?xml version='1.0' encoding='{declared}'?>".encode() + data,
        f"<?xml version='1.0' encoding='{declared}'?>{text}".encode(encoding, "replace"),
        data.replace(b"\n", b"\r"), data.replace(b"\n", b"\0"), data.replace(b" ", "\u2028".encode()),
        data + b"\xed\xa0\x80", data.replace(b"a", "а".encode()),
    ]  # fmt: skip
    return _pick(rng, options)


def _lines(data: bytes, rng: Rng) -> bytes:
    lines = data.split(b"\n")
    line = _pick(rng, lines)
    many = int(_pick(rng, (2, 1000, 20_000)))
    extra = [
        [line] * many, [line + b" 0.5" * 100_000], [b" " * 100_000], [b"0"] * many,
        [b"1e5 " * 5], [b"-0 0 0 0 0"], [b"0 nan nan nan nan"], [b"0 1e400 .5 .5 .5"],
        [_pick(rng, _TEXTS).encode("utf-8", "surrogatepass")], [line[::-1]], [b"0 " + b"9" * 5000 + b" .5 .5 .5"],
    ]  # fmt: skip
    place = int(rng.integers(len(lines) + 1))
    return b"\n".join([*lines[:place], *_pick(rng, extra), *lines[place:]])


def _xml_elements(data: bytes, rng: Rng) -> bytes:
    """Elements doubled, dropped, deepened or swapped; well-formed still."""
    found = list(re.finditer(rb"<(\w+)>(?:[^<]|<(?!/\1>))*</\1>", data))
    if not found:
        return data
    match = _pick(rng, found)
    whole, tag = match[0], match[1]
    inner = whole[len(tag) + 2 : -len(tag) - 3]
    text = _pick(rng, _TEXTS).encode("utf-8", "surrogatepass")
    new = _pick(rng, (
        whole * 2, whole * 3000, b"", b"<%s/>" % tag, b"<%s>%s</%s>" % (tag, text, tag),
        b"<%s a='%s'>%s</%s>" % (tag, b"x" * 50_000, inner, tag), b"<a>" * 49 + whole + b"</a>" * 49,
        b"<a>" * 40_000 + whole, b"<!--" + b"-" * 9 + b"-->" + whole, b"<![CDATA[" + inner + b"]]>",
        b"<?php x?>" + whole, b"<%s xmlns='a' xmlns:b='c'>%s</%s>" % (tag, inner, tag),
        b"<b:" + tag + b">" + inner + b"</b:" + tag + b">", b"&#0;", b"&#x1F600;" + whole, b"&#xD800;",
        b"<" + b"a" * 200_000 + b"/>" + whole, b"<a " + b" ".join(b"a%d=''" % i for i in range(5000)) + b"/>",
        whole.replace(tag, _pick(rng, found)[1]),
    ))  # fmt: skip
    return data[: match.start()] + new + data[match.end() :]


def _xml_doctype(data: bytes, rng: Rng) -> bytes:
    entities = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(10))
    return _pick(rng, (
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{entities}]>'.encode() + data.replace(b"cat", b"&l10;"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + data,
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///dev/zero">]>' + data.replace(b"cat", b"&x;"),
        b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://localhost:1/'> %p;]>" + data,
        b"<!DOCTYPE a [" + b"<!ELEMENT a (" + b"(" * 100_000,
    ))  # fmt: skip


def _json_value(data: bytes, rng: Rng) -> bytes:
    """One value replaced by another of any type, or said twice, or gone."""
    try:
        content = json.loads(data)
    except ValueError:
        return data
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    if not isinstance(content, dict | list) or not content:
        return data
    walk(content)
    holder, key = _pick(rng, places)
    new = _pick(rng, (
        None, True, False, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**400, 2**63, "", "7", [], {},
        [[]], {"a": [None]}, [0] * 3000, "@raw", "@drop", "@twice", *_TEXTS, [holder[key]], {"x": holder[key]},
    ))  # fmt: skip
    if new == "@drop" and isinstance(holder, dict):
        del holder[key]
    elif new == "@twice" and isinstance(holder, list):
        holder.extend([holder[key]] * int(_pick(rng, (1, 2500))))
    elif new == "@raw":
        holder[key] = "@raw"
        raw = _pick(rng, ("1e400", "-1e400", "[" * 500, "9" * 5000, '{"a":1,"a":2}', '"\\ud800"', "-", "01"))
        return json.dumps(content).encode().replace(b'"@raw"', raw.encode())
    else:
        holder[key] = new
    text = json.dumps(content)
    return text.encode() if rng.random() < 0.9 else text.encode(_pick(rng, ("utf-16", "utf-32", "utf-8-sig")))


def _json_twice(data: bytes, rng: Rng) -> bytes:
    """A key once more at the beginning or the end of an object."""
    found = list(re.finditer(rb'"\w+":', data))
    if not found:
        return data
    key = _pick(rng, found)[0]
    value = _pick(rng, (b"1", b"null", b"[]", b"{}", b'"x"', b"[[1,2,3,4]]", b"NaN", b"Infinity"))
    ends = [m.end() for m in re.finditer(rb"\{", data)]
    place = _pick(rng, ends)
    return data[:place] + key + value + b"," + data[place:]


def _yaml(data: bytes, rng: Rng) -> bytes:
    lines = "".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 9)}]\n" for i in range(9))
    extra = _pick(rng, (
        f"l0: &l0 ha\n{lines}names: *l9\n", f"l0: &l0 ha\n{lines}train: *l9\n", "names: &a [*a]\n",
        "names: &a {0: *a}\n", "<<: {names: [x]}\n", "<<: [a, b]\n", "? [a, b]\n: c\n", "? {a: b}\n: c\n",
        "names: !!python/object/apply:os.system [id]\n", "names: !!set {a, b}\n", "nc: !!binary aGk=\n",
        "nc: [1]\n", "nc: {a: b}\n", "nc: " + "9" * 5000 + "\n", "nc: -5\n", "nc: 1e3\n", "nc: ٣\n",
        "names: {0: {0: a}}\n", "names: [[a], b]\n", "names: {-1: a, 99999999999: b}\n", "names: {1.5: a}\n",
        "names: {" + "9" * 5000 + ": a}\n", "train: [[a]]\n", "train: {a: b}\n", "train: [images/train, '']\n",
        "train: ../../../../etc\n", "train: /etc/passwd\n", "train: /dev/zero\n", "train: /dev/stdin\n",
        "train: images/train/\0x\n", "train: " + "a/" * 5000 + "\n", "train: " + "../" * 3000 + "\n",
        "path: /\n", "path: [a]\n", "path: " + "x" * 5000 + "\n", "train: '\\0'\n", 'train: "\\0"\n',
        'train: "\\ud800"\n', 'names: ["\\ud800"]\n', "kpt_shape: [17, 3]\n", "--- a\n--- b\n", "%YAML 9.9\n---\n",
        "%TAG ! tag:a,b:\n---\n", "names: " + "[" * 400 + "\n", "names: " + "{a: " * 400 + "\n", "- a\n" * 4000,
        "- " * 400 + "\n", "a: |\n  " + "x" * 20_000 + "\n", "a: >\n\t\tb\n", "\tnames: a\n", "names:\n- a\n -b\n",
        "names: *nothing\n", "train: lists.txt\n", "train: data.yaml\n", "names: [" + "a, " * 5000 + "b]\n",
        "train: .\n", "train: ..\n", "train: images/train/a.jpg\n", "val: classes.txt\n", "path: ''\n",
    ))  # fmt: skip
    key = extra.split(":")[0].encode()
    kept = [line for line in data.split(b"\n") if not line.startswith(key + b":")]
    new = extra.encode("utf-8", "surrogatepass")
    return new + b"\n".join(kept) if rng.random() < 0.5 else b"\n".join(kept) + b"\n" + new


# --- models ---------------------------------------------------------------------------------------


def _safetensors(data: bytes, rng: Rng) -> bytes:
    """Another header, its length right: offsets that overlap, go backwards or beyond."""
    if len(data) < 8:
        return data
    (length,) = struct.unpack_from("<Q", data)
    try:
        header = json.loads(data[8 : 8 + length])
        entries = [name for name in header if name != "__metadata__"]
        entry = header[_pick(rng, entries)]
        entry["data_offsets"] = list(entry["data_offsets"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return data
    body = data[8 + length :]
    big = _pick(rng, (0, 1, -1, 2**31, 2**40, 2**63, 2**64, 1.5, None, "8"))
    match int(rng.integers(9)):
        case 0:
            entry["data_offsets"] = [big, _pick(rng, (0, 8, 2**40))]
        case 1:
            entry["data_offsets"] = entry["data_offsets"][::-1]
        case 2:
            entry["shape"] = _pick(rng, ([big], [0, 2**40], [2**32, 2**32], [], [1] * 5000, [-2, -3]))
        case 3:
            entry["dtype"] = _pick(rng, ("BF16", "F8_E4M3", "F8_E5M2", "BOOL", "U64", "C64", "X", "", 7, "F4"))
        case 4:
            header = {name: header[entries[0]] if name in entries else header[name] for name in header}
        case 5:
            header["__metadata__"] = _pick(rng, (None, [], {CARD_KEY: 5}, {CARD_KEY: "{}"}, {"a": "b"}, "x"))
        case 6:
            metadata = header["__metadata__"]
            metadata[CARD_KEY] = _json_value(metadata[CARD_KEY].encode(), rng).decode("utf-8", "replace")
        case 7:
            header = {f"a{i}": entry for i in range(2000)} | header
        case _:
            return struct.pack("<Q", _pick(rng, (0, 2**63, 2**40, length + 1, 100_000_001))) + data[8:]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """(number, wire type, content) of a protobuf message; raises ValueError for other bytes."""
    fields, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    try:
        while at < len(data):
            key = varint()
            start = at
            match key & 7:
                case 0:
                    varint()
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 2:
                    length = varint()
                    start, at = at, at + length
                case _:
                    raise ValueError("a group")
            if at > len(data):
                raise ValueError("cut off")
            fields.append((key >> 3, key & 7, data[start:at]))
    except IndexError:
        raise ValueError("cut off") from None
    return fields


def _message(fields: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(
        _varint(number << 3 | wire) + (_varint(len(body)) if wire == 2 else b"") + body
        for number, wire, body in fields
    )


def _protobuf(data: bytes, rng: Rng) -> bytes:
    """A field, somewhere in the messages in each other, changed; the lengths around it are right."""
    try:
        fields = _fields(data)
    except ValueError:
        fields = []
    if not fields:
        return _pick(rng, (data, b"", b"\xff" * 20, data + b"\x0b" * 200))
    place = int(rng.integers(len(fields)))
    number, wire, body = fields[place]
    if wire == 2 and len(body) > 1 and rng.random() < 0.75:
        fields[place] = (number, wire, _protobuf(body, rng))
        return _message(fields)
    match int(rng.integers(8)):
        case 0:
            fields.insert(int(rng.integers(len(fields) + 1)), fields[place])
        case 1:
            del fields[place]
        case 2:
            value = _pick(rng, (0, 1, 2, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
            fields[place] = (number, 0, _varint(value))
        case 3:
            fields[place] = (int(_pick(rng, (1, 2, 3, 5, 7, 8, 14, 100, 2**29 - 1))), wire, body)
        case 4:
            fields[place] = (number, 2, _pick(rng, _TEXTS).encode("utf-8", "surrogatepass"))
        case 5:
            nested = body
            for _ in range(int(_pick(rng, (3, 90, 110, 3000)))):
                nested = _message([(number, 2, nested)])
                if len(nested) > 200_000:
                    break
            fields[place] = (number, 2, nested)
        case 6:
            fields[place] = (number, wire, body * int(_pick(rng, (2, 3, 100))) if wire == 2 else body)
        case _:
            fields = [fields[i] for i in rng.permutation(len(fields))]
    return _message(fields)


def _prototxt(data: bytes, rng: Rng) -> bytes:
    words = (
        b"layer { " * 500, b"layer { name: 'a' type: 'Input' input_param { shape { dim: 99999999999 } } }",
        b"input_dim: 2147483647\n", b"layer { type: 'Concat' bottom: 'data' top: 'data' }", b"} } }",
        b"layer { convolution_param { num_output: 4294967295 kernel_size: 4294967295 } }",
        b"layer { name: '" + b"a" * 5000 + b"' }", b"name: '\\xed\\xa0\\x80'", b"[a.b/c.d] { x: 1 }",
        b"prior_box_param { min_size: inf max_size: nan }", b"# " + b"x" * 10_000, b"layer < >", b"unknown: {a: [1,2,{b:3}]}",
    )  # fmt: skip
    lines = data.split(b"\n")
    place = int(rng.integers(len(lines) + 1))
    if rng.random() < 0.5:
        return b"\n".join([*lines[:place], _pick(rng, words), *lines[place:]])
    other = int(rng.integers(len(lines)))
    return b"\n".join([*lines[:place], *lines[other : other + 30], *lines[place:]])


_PICTURE: tuple[Mutation, ...] = (_disguised,)
_TEXT: tuple[Mutation, ...] = (_number_in_text, _encoding, _lines)
_ANY = _TEXT
_KINDS: dict[str, tuple[Mutation, ...]] = {
    ".png": (_png_size, _png_size, _png_bomb, _png_order, *_PICTURE),
    ".jpg": (_jpeg_frame, _jpeg_frame, _jpeg_order, _jpeg_scans, *_PICTURE),
    ".webp": (_riff, _riff, *_PICTURE),
    ".tif": (_tiff_tag, _tiff_tag, _tiff_tag, *_PICTURE),
    ".bmp": _PICTURE,
    ".gif": _PICTURE,
    ".ppm": (*_PICTURE, _number_in_text),
    ".xml": (_xml_elements, _xml_elements, _xml_doctype, _number_in_text, _encoding),
    ".json": (_json_value, _json_value, _json_twice, _number_in_text, _encoding),
    ".yaml": (_yaml, _yaml, *_TEXT),
    ".txt": _TEXT,
    ".safetensors": (_safetensors,),
    ".onnx": (_protobuf,),
    ".pb": (_protobuf,),
    ".caffemodel": (_protobuf,),
    ".prototxt": (_prototxt, _number_in_text),
}
