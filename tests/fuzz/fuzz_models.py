"""Models whose lengths are right and whose headers, fields or layers are not."""

import json
import struct
from contextlib import suppress

from fuzz_choices import TEXTS, Mutation, Rng, pick
from fuzz_labels import json_value

from multibox.card import CARD_KEY


def _safetensors(data: bytes, rng: Rng) -> bytes:
    """Another header, its length right: offsets that overlap, go backwards or beyond."""
    if len(data) < 8:
        return data
    (length,) = struct.unpack_from("<Q", data)
    try:
        header = json.loads(data[8 : 8 + length])
        entries = [name for name in header if name != "__metadata__"]
        entry = header[pick(rng, entries)]
        entry["data_offsets"] = list(entry["data_offsets"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return data
    body = data[8 + length :]
    big = pick(rng, (0, 1, -1, 2**31, 2**40, 2**63, 2**64, 1.5, None, "8"))
    match int(rng.integers(9)):
        case 0:
            entry["data_offsets"] = [big, pick(rng, (0, 8, 2**40))]
        case 1:
            entry["data_offsets"] = entry["data_offsets"][::-1]
        case 2:
            entry["shape"] = pick(
                rng, ([big], [0, 2**40], [2**32, 2**32], [], [1] * 5000, [-2, -3])
            )
        case 3:
            entry["dtype"] = pick(
                rng, ("BF16", "F8_E4M3", "F8_E5M2", "BOOL", "U64", "C64", "X", "", 7, "F4")
            )
        case 4:
            header = {
                name: header[entries[0]] if name in entries else header[name] for name in header
            }
        case 5:
            header["__metadata__"] = pick(
                rng, (None, [], {CARD_KEY: 5}, {CARD_KEY: "{}"}, {"a": "b"}, "x")
            )
        case 6:
            card = json.dumps(header.get("__metadata__"))
            with suppress(ValueError):
                header["__metadata__"] = json.loads(json_value(card.encode(), rng))
        case 7:
            header = {f"a{i}": entry for i in range(2000)} | header
        case _:
            return (
                struct.pack("<Q", pick(rng, (0, 2**63, 2**40, length + 1, 100_000_001))) + data[8:]
            )
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
    """A field, at any depth, changed; the lengths of the messages around it are right."""
    try:
        fields = _fields(data)
    except ValueError:
        fields = []
    if not fields:
        return pick(rng, (data, b"", b"\xff" * 20, data + b"\x0b" * 200))
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
            value = pick(rng, (0, 1, 2, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
            fields[place] = (number, 0, _varint(value))
        case 3:
            fields[place] = (int(pick(rng, (1, 2, 3, 5, 7, 8, 14, 100, 2**29 - 1))), wire, body)
        case 4:
            fields[place] = (number, 2, pick(rng, TEXTS).encode("utf-8", "surrogatepass"))
        case 5:
            nested = body
            for _ in range(int(pick(rng, (3, 90, 110, 3000)))):
                nested = _message([(number, 2, nested)])
                if len(nested) > 200_000:
                    break
            fields[place] = (number, 2, nested)
        case 6:
            fields[place] = (
                number,
                wire,
                body * int(pick(rng, (2, 3, 100))) if wire == 2 else body,
            )
        case _:
            fields = [fields[i] for i in rng.permutation(len(fields))]
    return _message(fields)


def _prototxt(data: bytes, rng: Rng) -> bytes:
    words = (
        b"layer { " * 500,
        b"layer { name: 'a' type: 'Input' input_param { shape { dim: 99999999999 } } }",
        b"input_dim: 2147483647\n", b"layer { type: 'Concat' bottom: 'data' top: 'data' }",
        b"} } }",
        b"layer { convolution_param { num_output: 4294967295 kernel_size: 4294967295 } }",
        b"layer { name: '" + b"a" * 5000 + b"' }", b"name: '\\xed\\xa0\\x80'",
        b"[a.b/c.d] { x: 1 }",
        b"prior_box_param { min_size: inf max_size: nan }", b"# " + b"x" * 10_000, b"layer < >",
        b"unknown: {a: [1,2,{b:3}]}",
    )  # fmt: skip
    lines = data.split(b"\n")
    place = int(rng.integers(len(lines) + 1))
    if rng.random() < 0.5:
        return b"\n".join([*lines[:place], pick(rng, words), *lines[place:]])
    other = int(rng.integers(len(lines)))
    return b"\n".join([*lines[:place], *lines[other : other + 30], *lines[place:]])


MODELS: dict[str, tuple[Mutation, ...]] = {
    ".safetensors": (_safetensors,),
    ".onnx": (_protobuf,),
    ".pb": (_protobuf,),
    ".caffemodel": (_protobuf,),
    ".prototxt": (_prototxt,),
}
