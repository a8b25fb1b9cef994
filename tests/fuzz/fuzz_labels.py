"""Labels that can be parsed and say what no label should."""

import json
import re
from typing import Any

from fuzz_choices import TEXTS, Mutation, Rng, pick

_NUMBERS = (
    "0", "-1", "1", "-0", "0.5", "1e400", "-1e400", "nan", "inf", "1e-400", "9" * 30, "9" * 5000,
    "0x10", "1_000", "٣", "½", "1,5", "2147483648", "9223372036854775808", "", " ", "true", "1e308",
)  # fmt: skip


def _number_in_text(data: bytes, rng: Rng) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return data
    match = pick(rng, found)
    return data[: match.start()] + pick(rng, _NUMBERS).encode() + data[match.end() :]


def _encoding(data: bytes, rng: Rng) -> bytes:
    """Other encodings, with and without saying so, and marks that belong to another."""
    text = data.decode("utf-8", "replace")
    encoding = pick(rng, ("utf-16", "utf-16-be", "utf-32", "latin-1", "utf-7", "cp037"))
    declared = pick(
        rng, ("utf-8", "UTF-16", "utf-7", "rot13", "base64", "ascii", "unicode_escape", "zip")
    )
    options = [
        text.encode(encoding, "replace"), b"\xef\xbb\xbf" + data, b"\xff\xfe" + data,
        f"<?xml version='1.0' encoding='{declared}'?>".encode() + data,
        f"<?xml version='1.0' encoding='{declared}'?>{text}".encode(encoding, "replace"),
        data.replace(b"\n", b"\r"), data.replace(b"\n", b"\0"),
        data.replace(b" ", "\u2028".encode()),
        data + b"\xed\xa0\x80", data.replace(b"a", "а".encode()),
    ]  # fmt: skip
    return pick(rng, options)


def _lines(data: bytes, rng: Rng) -> bytes:
    lines = data.split(b"\n")
    line = pick(rng, lines)
    many = int(pick(rng, (2, 1000, 20_000)))
    extra = [
        [line] * many, [line + b" 0.5" * 100_000], [b" " * 100_000], [b"0"] * many,
        [b"1e5 " * 5], [b"-0 0 0 0 0"], [b"0 nan nan nan nan"], [b"0 1e400 .5 .5 .5"],
        [pick(rng, TEXTS).encode("utf-8", "surrogatepass")], [line[::-1]],
        [b"0 " + b"9" * 5000 + b" .5 .5 .5"],
    ]  # fmt: skip
    place = int(rng.integers(len(lines) + 1))
    return b"\n".join([*lines[:place], *pick(rng, extra), *lines[place:]])


def _xml_elements(data: bytes, rng: Rng) -> bytes:
    """Elements doubled, dropped, deepened or swapped; well-formed still."""
    # No more than the file had at first: what was made of it may be long and deep.
    found = list(re.finditer(rb"<(\w+)>(?:[^<]|<(?!/\1>))*</\1>", data[:1000]))
    if not found:
        return data
    match = pick(rng, found)
    whole, tag = match[0], match[1]
    inner = whole[len(tag) + 2 : -len(tag) - 3]
    text = pick(rng, TEXTS).encode("utf-8", "surrogatepass")
    new = pick(rng, (
        whole * 2, whole * 3000, b"", b"<%s/>" % tag, b"<%s>%s</%s>" % (tag, text, tag),
        b"<%s a='%s'>%s</%s>" % (tag, b"x" * 50_000, inner, tag),
        b"<a>" * 49 + whole + b"</a>" * 49,
        b"<a>" * 40_000 + whole, b"<!--" + b"-" * 9 + b"-->" + whole, b"<![CDATA[" + inner + b"]]>",
        b"<?php x?>" + whole, b"<%s xmlns='a' xmlns:b='c'>%s</%s>" % (tag, inner, tag),
        b"<b:" + tag + b">" + inner + b"</b:" + tag + b">", b"&#0;", b"&#x1F600;" + whole,
        b"&#xD800;",
        b"<" + b"a" * 200_000 + b"/>" + whole,
        b"<a " + b" ".join(b"a%d=''" % i for i in range(5000)) + b"/>",
        whole.replace(tag, pick(rng, found)[1]),
    ))  # fmt: skip
    return data[: match.start()] + new + data[match.end() :]


def _xml_doctype(data: bytes, rng: Rng) -> bytes:
    entities = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(10))
    return pick(rng, (
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{entities}]>'.encode() + data.replace(b"cat", b"&l10;"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + data,
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///dev/zero">]>' + data.replace(b"cat", b"&x;"),
        b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://localhost:1/'> %p;]>" + data,
        b"<!DOCTYPE a [" + b"<!ELEMENT a (" + b"(" * 100_000,
    ))  # fmt: skip


def json_value(data: bytes, rng: Rng) -> bytes:
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
    holder, key = pick(rng, places)
    new = pick(rng, (
        None, True, False, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**400, 2**63, "", "7",
        [], {},
        [[]], {"a": [None]}, [0] * 3000, "@raw", "@drop", "@twice", *TEXTS, [holder[key]],
        {"x": holder[key]},
    ))  # fmt: skip
    if new == "@drop" and isinstance(holder, dict):
        del holder[key]
    elif new == "@twice" and isinstance(holder, list):
        holder.extend([holder[key]] * int(pick(rng, (1, 2500))))
    elif new == "@raw":
        holder[key] = "@raw"
        raw = pick(
            rng, ("1e400", "-1e400", "[" * 500, "9" * 5000, '{"a":1,"a":2}', '"\\ud800"', "-", "01")
        )
        return json.dumps(content).encode().replace(b'"@raw"', raw.encode())
    else:
        holder[key] = new
    text = json.dumps(content)
    return (
        text.encode()
        if rng.random() < 0.9
        else text.encode(pick(rng, ("utf-16", "utf-32", "utf-8-sig")))
    )


def _json_twice(data: bytes, rng: Rng) -> bytes:
    """A key once more at the beginning or the end of an object."""
    found = list(re.finditer(rb'"\w+":', data))
    if not found:
        return data
    key = pick(rng, found)[0]
    value = pick(rng, (b"1", b"null", b"[]", b"{}", b'"x"', b"[[1,2,3,4]]", b"NaN", b"Infinity"))
    ends = [m.end() for m in re.finditer(rb"\{", data)]
    place = pick(rng, ends)
    return data[:place] + key + value + b"," + data[place:]


def _yaml(data: bytes, rng: Rng) -> bytes:
    lines = "".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 9)}]\n" for i in range(9))
    extra = pick(rng, (
        f"l0: &l0 ha\n{lines}names: *l9\n", f"l0: &l0 ha\n{lines}train: *l9\n", "names: &a [*a]\n",
        "names: &a {0: *a}\n", "<<: {names: [x]}\n", "<<: [a, b]\n", "? [a, b]\n: c\n",
        "? {a: b}\n: c\n",
        "names: !!python/object/apply:os.system [id]\n", "names: !!set {a, b}\n",
        "nc: !!binary aGk=\n",
        "nc: [1]\n", "nc: {a: b}\n", "nc: " + "9" * 5000 + "\n", "nc: -5\n", "nc: 1e3\n", "nc: ٣\n",
        "names: {0: {0: a}}\n", "names: [[a], b]\n", "names: {-1: a, 99999999999: b}\n",
        "names: {1.5: a}\n",
        "names: {" + "9" * 5000 + ": a}\n", "train: [[a]]\n", "train: {a: b}\n",
        "train: [images/train, '']\n",
        "train: ../../../../etc\n", "train: /etc/passwd\n", "train: /dev/zero\n",
        "train: /dev/stdin\n",
        "train: images/train/\0x\n", "train: " + "a/" * 5000 + "\n",
        "train: " + "../" * 3000 + "\n",
        "path: /\n", "path: [a]\n", "path: " + "x" * 5000 + "\n", "train: '\\0'\n",
        'train: "\\0"\n',
        'train: "\\ud800"\n', 'names: ["\\ud800"]\n', "kpt_shape: [17, 3]\n", "--- a\n--- b\n",
        "%YAML 9.9\n---\n",
        "%TAG ! tag:a,b:\n---\n", "names: " + "[" * 400 + "\n", "names: " + "{a: " * 400 + "\n",
        "- a\n" * 4000,
        "- " * 400 + "\n", "a: |\n  " + "x" * 20_000 + "\n", "a: >\n\t\tb\n", "\tnames: a\n",
        "names:\n- a\n -b\n",
        "names: *nothing\n", "train: lists.txt\n", "train: data.yaml\n",
        "names: [" + "a, " * 5000 + "b]\n",
        "train: .\n", "train: ..\n", "train: images/train/a.jpg\n", "val: classes.txt\n",
        "path: ''\n",
    ))  # fmt: skip
    key = extra.split(":")[0].encode()
    kept = [line for line in data.split(b"\n") if not line.startswith(key + b":")]
    new = extra.encode("utf-8", "surrogatepass")
    return new + b"\n".join(kept) if rng.random() < 0.5 else b"\n".join(kept) + b"\n" + new


LABELS: dict[str, tuple[Mutation, ...]] = {
    ".xml": (_xml_elements, _xml_elements, _xml_doctype, _number_in_text, _encoding),
    ".json": (json_value, json_value, _json_twice, _number_in_text, _encoding),
    ".yaml": (_yaml, _yaml, _number_in_text, _encoding, _lines),
    ".txt": (_number_in_text, _encoding, _lines),
}
