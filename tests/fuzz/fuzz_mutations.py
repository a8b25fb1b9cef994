"""Damage as it happens and as it is made on purpose: seeded, so that a number names a file."""

from collections.abc import Callable

import numpy as np

# What lengths and counts are blown up to, in both byte orders and in text.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
_WORDS = (
    b"-1", b"0", b"1e999", b"nan", b"-inf", b"99999999999999999999", b"\0", b"\xff\xfe", b"<", b">",
    b"&a;", b"{", b"[" * 50, b"]", b'"', b"\\u0000", b"null", b"true", b"../../etc/passwd", b"\n",
    b"&x &x", b"!!python/object/apply:os.system [id]", b"\xe2\x80\xae", b"\x80", b",", b":", b"- ",
)  # fmt: skip


def mutated(data: bytes, number: int) -> bytes:
    """The ``number``-th damaged form of ``data``: one to four mutations, most often one."""
    rng = np.random.default_rng(number)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        mutate = _MUTATIONS[rng.integers(len(_MUTATIONS))]
        data = mutate(bytearray(data), rng)
    return data


def _flip_bits(data: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, max(len(data), 1), rng.integers(1, 9)):
        if place < len(data):
            data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _set_bytes(data: bytearray, rng: np.random.Generator) -> bytes:
    # The header is where a byte means most.
    end = len(data) if rng.random() < 0.5 else min(len(data), 64)
    for place in rng.integers(0, max(end, 1), rng.integers(1, 5)):
        if place < len(data):
            data[place] = int(rng.integers(256))
    return bytes(data)


def _truncate(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: rng.integers(0, len(data) + 1)])


def _cut_out(data: bytearray, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(data) + 1, 2))
    del data[first : min(last, first + int(rng.integers(1, 64)))]
    return bytes(data)


def _insert(data: bytearray, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(data) + 1))
    if rng.random() < 0.5:
        data[place:place] = _WORDS[rng.integers(len(_WORDS))]
    else:
        data[place:place] = rng.bytes(int(rng.integers(1, 32)))
    return bytes(data)


def _splice(data: bytearray, rng: np.random.Generator) -> bytes:
    """A piece of the file once more, over another piece or between two."""
    start = int(rng.integers(0, len(data) + 1))
    piece = data[start : start + int(rng.integers(1, 256))]
    place = int(rng.integers(0, len(data) + 1))
    end = place + len(piece) if rng.random() < 0.5 else place
    data[place:end] = piece * int(rng.choice([1, 1, 2, 50]))
    return bytes(data)


def _blow_up(data: bytearray, rng: np.random.Generator) -> bytes:
    """An extreme number where a length may be: 2, 4 or 8 bytes, or a run of digits."""
    value = _EXTREMES[rng.integers(len(_EXTREMES))]
    digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if digits and rng.random() < 0.5:
        place = digits[rng.integers(len(digits))]
        data[place : place + 1] = str(value).encode()
        return bytes(data)
    width = int(rng.choice([2, 4, 8]))
    order = "little" if rng.random() < 0.5 else "big"
    place = int(rng.integers(0, max(len(data) - width, 0) + 1))
    data[place : place + width] = (value % 256**width).to_bytes(width, order)
    return bytes(data)


_MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (
    _flip_bits, _set_bytes, _truncate, _cut_out, _insert, _splice, _blow_up,
)  # fmt: skip
