"""One picture file looked at: is it whole, can it be decoded, and is there anything unusual."""

import hashlib
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from multibox.data.doctor.structure import Damage, frames, missing_end
from multibox.data.policies import Kind
from multibox.errors import ImageError
from multibox.image_headers import HeaderError, ImageHeader, ShortHeaderError, parse_header
from multibox.imaging import MAX_PIXELS, read_image

_HEAD_BYTES = 65_536
_BYTES_A_PIXEL = 8  # four channels of 16 bits, not compressed: more is no picture of that size

# A 16-bit picture is shifted right by 8: of 12-bit samples stored as they are, 16 levels remain.
_UNUSED_RANGE = 1 << 12


@dataclass(slots=True)
class PictureFacts:
    """What is known of a picture: size as stored, EXIF orientation, the hash of its pixels, faults.

    ``faults`` are (kind, is an error, what, remedy). ``pixels`` is '' where it cannot be decoded.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    format: str = ""
    pixels: str = ""
    faults: list[tuple[Kind, bool, str, str]] = field(default_factory=list)

    @property
    def header(self) -> ImageHeader | None:
        """The header, None where it could not be read."""
        if not self.format:
            return None
        return ImageHeader(self.format, self.width, self.height, self.orientation)

    @property
    def usable(self) -> bool:
        """Whether training can read it, and all of it."""
        lost = {"unreadable-image", "truncated-image", "oversized-image"}
        return not any(kind in lost and is_error for kind, is_error, _, _ in self.faults)


def look_at(path: Path, decoder_said: Callable[[], str] = str) -> PictureFacts:
    """Read, check and decode one picture; never raises for what is in the file.

    ``decoder_said`` gives what the decoder printed since it was last asked: the only trace of some
    damage, as flipped bits that decode to nonsense.
    """
    facts = PictureFacts()
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return _broken(facts, "unreadable-image", "not a regular file", "remove it")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if not head:
                return _broken(facts, "unreadable-image", "an empty file", _REPLACE)
            too_large = _header(facts, head, info.st_size)
            data = b"" if too_large else head + file.read()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        return _broken(facts, "unreadable-image", what, "check the file")
    if not too_large:
        _check(facts, path, data, decoder_said)
    return facts


_REPLACE = "replace the file or remove it with its label"


def _broken(facts: PictureFacts, kind: Kind, what: str, remedy: str) -> PictureFacts:
    facts.faults.append((kind, True, what, remedy))
    return facts


def _header(facts: PictureFacts, head: bytes, size: int) -> bool:
    """Fill in what the header says; True where the file is not to be read any further."""
    try:
        header = parse_header(head)
    except HeaderError:
        # Its size may stand further on; a gigabyte that is no picture is not read to find out.
        too_large = size > _BYTES_A_PIXEL * MAX_PIXELS
        if too_large:
            _broken(facts, "oversized-image", f"{size:,} bytes", "remove it")
        return too_large
    facts.format, facts.orientation = header.format, header.orientation
    facts.width, facts.height = header.width, header.height
    pixels = header.width * header.height
    if pixels <= MAX_PIXELS and size <= _BYTES_A_PIXEL * MAX_PIXELS:
        return False
    what = f"{header.width} x {header.height} pixels in {size:,} bytes, the limit is"
    _broken(facts, "oversized-image", f"{what} {MAX_PIXELS:,} pixels", "make it smaller")
    return True


def _check(facts: PictureFacts, path: Path, data: bytes, decoder_said: Callable[[], str]) -> None:
    try:
        header = parse_header(data)
    except ShortHeaderError:
        _broken(facts, "truncated-image", "cut off in its header", _REPLACE)
        return
    except HeaderError as error:
        _broken(facts, "unreadable-image", str(error), _REPLACE)
        return
    facts.format, facts.orientation = header.format, header.orientation
    facts.width, facts.height = header.width, header.height
    if header.width * header.height > MAX_PIXELS:
        what = f"{header.width} x {header.height} pixels, the limit is {MAX_PIXELS:,}"
        _broken(facts, "oversized-image", what, "make it smaller")
        return
    damage = None
    try:
        missing = missing_end(data, header.format)
    except Damage as error:
        missing, damage = None, str(error)
    decoder_said()
    try:
        image = read_image(data)
        said = decoder_said()
        facts.pixels = hashlib.blake2b(
            image.tobytes() + struct.pack("<II", *image.shape[:2]), digest_size=16
        ).hexdigest()
    except ImageError as error:
        if missing is None:
            reason = damage or str(error).removeprefix("image bytes: ")
            _broken(facts, "unreadable-image", reason, _REPLACE)
            return
        said = ""
    if missing is not None:
        _broken(facts, "truncated-image", f"cut off: {missing}", _REPLACE)
        return
    if damage:
        _broken(facts, "unreadable-image", f"damaged: {damage}", _REPLACE)
    elif said:
        what = f"damaged though it decodes: {said[:120]}"
        facts.faults.append(("unreadable-image", True, what, f"look at it, and {_REPLACE}"))
    facts.faults += [*_misnamed(path, header), *_unusual(data, header)]
    if header.orientation != 1 and header.format == "avif":
        facts.orientation = 1  # which read_image does not apply


def _misnamed(path: Path, header: ImageHeader) -> list[tuple[Kind, bool, str, str]]:
    """The file's name says another format; here the contents count, elsewhere the name may."""
    suffix = path.suffix.lower()
    if _FORMATS.get(suffix, header.format) == header.format:
        return []
    what = f"a {_TITLES.get(header.format, header.format.upper())} file named {suffix}"
    return [("unusual-image", False, what, "rename it: other programs go by the name")]


_FORMATS = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jfif": "jpeg", ".png": "png", ".webp": "webp",
    ".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff", ".gif": "gif", ".avif": "avif",
    ".jp2": "jpeg2000", ".ppm": "pnm", ".pgm": "pnm", ".pbm": "pnm", ".pnm": "pnm",
}  # fmt: skip
_TITLES = {"webp": "WebP", "jpeg2000": "JPEG 2000"}


def _unusual(data: bytes, header: ImageHeader) -> list[tuple[Kind, bool, str, str]]:
    faults: list[tuple[Kind, bool, str, str]] = []
    if (count := frames(data, header.format)) > 1:
        what = f"an animation of {count} frames, of which the first is used"
        faults.append(("unusual-image", False, what, "save the frames that are labelled"))
    return [*faults, *_unusual_samples(data, header)]


def _unusual_samples(data: bytes, header: ImageHeader) -> list[tuple[Kind, bool, str, str]]:
    if header.format == "jpeg":
        if _jpeg_components(data) == 4:
            what = "a JPEG of four colours (CMYK), turned into RGB without its colour profile"
            return [("unusual-image", False, what, "check its colours, or save it as RGB")]
        return []
    if header.format not in ("png", "webp", "tiff", "jpeg2000", "pnm"):
        return []
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        return []
    faults: list[tuple[Kind, bool, str, str]] = []
    if stored.dtype == np.uint16:
        largest = int(stored[..., :3].max()) if stored.ndim == 3 else int(stored.max())
        what, remedy = "16-bit samples, of which the upper 8 bits are used", "nothing to do"
        if largest < _UNUSED_RANGE:
            what = (
                f"16-bit samples of at most {largest}: after the shift to 8 bits only "
                f"{(largest >> 8) + 1} grey levels remain"
            )
            remedy = "scale the samples to the full range and save it again"
        faults.append(("unusual-image", largest < _UNUSED_RANGE, what, remedy))
    if stored.ndim == 3 and stored.shape[2] == 4:
        opaque = 255 if stored.dtype == np.uint8 else 65535
        share = float((stored[..., 3] < opaque).mean())
        what = f"an alpha channel ({share:.0%} of the pixels not opaque), composed over white"
        faults.append(("unusual-image", False, what, "check that white is the right background"))
    return faults


def _jpeg_components(data: bytes) -> int:
    """The number of components that the frame header states (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 10 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            return 0
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 9]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0
