"""The only door for pixels: bytes, a file or an array -> upright RGB uint8 -> the network's input.

Training, evaluation, ``detect``, the users of an exported model and the server all call
``read_image`` and ``to_network_input``, so that they cannot disagree about a picture.

What becomes of unusual pictures: EXIF orientation is applied (to AVIF it is not); grey becomes
three equal channels; 16-bit samples are shifted right by 8; alpha is composed over ``BACKGROUND``;
palettes and CMYK become RGB; of an animation the first frame is taken (GIF needs OpenCV 4.11);
floating-point samples are refused. A truncated JPEG is refused by OpenCV 5, while 4.x fills what
is missing with grey; one with flipped bits decodes in both.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from multibox import limits
from multibox.card import Preprocessing
from multibox.errors import ImageError
from multibox.image_headers import (
    HeaderError,
    ImageHeader,
    ShortHeaderError,
    jpeg_scans,
    parse_header,
)
from multibox.resizing import resize_by_corners

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2",
    ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
"""Lower-case file name endings of the pictures that can be read."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels (RGB): white, as in the viewers people label with."""

MAX_PIXELS = limits.PICTURE_PIXELS
"""The largest picture read unless the caller says otherwise (300 MB as RGB)."""

Reduction = Literal[1, 2, 4, 8]
"""By how much a JPEG's sides are divided while it is decoded."""

_REDUCED = {
    1: 0,
    # The decoder's bit for one half, one quarter, one eighth; colour is asked for beside it.
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_MOST_SCANS = 20  # of a JPEG of MAX_PIXELS, more of a smaller one; encoders write about ten
_BAND = 1 << 18  # pixels turned into RGB at a time: what comes between fits in a cache
_HEAD_BYTES = 16_384  # holds the size of all but a few pictures with large metadata
_COLOR_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11
_FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG 2000 or PNM"

# Every failure is raised here as an error that names the file; OpenCV's own lines on stderr would
# only break progress bars and `--jsonl -`. Who wants them sets OPENCV_LOG_LEVEL.
if "OPENCV_LOG_LEVEL" not in os.environ:
    # OpenCV 5 moved the function; 0 is "silent" in both.
    (getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)


def read_image(
    source: Path | str | bytes | npt.NDArray[np.generic], *, max_pixels: int = MAX_PIXELS
) -> Image:
    """Read a picture as an upright RGB array ``[H, W, 3]`` of uint8, C-contiguous.

    ``source`` is a file, the bytes of one, or an array of RGB pixels: ``[H, W, 3]``, grey
    ``[H, W]`` or ``[H, W, 1]``, or with alpha ``[H, W, 4]``, of uint8 or uint16. An array that is
    already right is returned itself, not copied.

    Raises ImageError where the picture cannot be read, has more than ``max_pixels`` pixels, or
    takes more than eight bytes of memory for each of these; a file's size is known from its header
    before anything is decoded.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, bytes):
        return read_encoded(source, "image bytes", max_pixels=max_pixels).decode()
    data = read_bytes(Path(source), max_pixels=max_pixels)
    return read_encoded(data, str(source), max_pixels=max_pixels).decode()


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """The bytes of a picture file whose header has been read; no pixel is decoded yet."""

    data: bytes
    name: str
    header: ImageHeader

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture, not reduced."""
        return self.header.upright_size

    def can_be_reduced(self, reduction: Reduction) -> bool:
        """Whether pixel (i, j) of a reduced decode begins at ``reduction`` times (i, j).

        JPEGs alone are decoded to a smaller size at less cost. Turning one whose sides are no
        multiples would put the cells that are cut off at the edge first.
        """
        header = self.header
        whole = header.width % reduction == header.height % reduction == 0
        return header.format == "jpeg" and (header.orientation == 1 or whole)

    def decode(self, reduction: Reduction = 1) -> Image:
        """The upright RGB picture ``[H, W, 3]`` of uint8, C-contiguous.

        A ``reduction`` above 1 makes its sides that much shorter, rounded up, at a part of the
        time: cosines of each block that are too fine are left out, which is close to the mean of
        ``reduction`` x ``reduction`` pixels. See ``can_be_reduced``.

        Raises ImageError where the picture is damaged.
        """
        return _decode(self, reduction)


def read_encoded(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> EncodedPicture:
    """Look at the header of a picture file in memory; ``name`` is what errors call it.

    Raises ImageError where it is no picture, or too large as ``read_image`` has it.
    """
    try:
        header = parse_header(data)
    except HeaderError as error:
        raise _not_a_picture(name, error) from error
    pixels = header.width * header.height
    _check_size(header.width, header.height, max_pixels, name)
    _check_bytes(len(data) + int(pixels * header.bytes_to_decode), max_pixels, name)
    if header.format == "jpeg":
        _check_scans(jpeg_scans(data) * pixels, max_pixels, name)
    return EncodedPicture(data, name, header)


def read_bytes(path: Path, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The contents of a picture file; raises ImageError where they cannot be read, or too large."""
    try:
        _check_bytes(path.stat().st_size, max_pixels, str(path))
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of the upright picture in pixels, read from the file's header alone.

    Raises ImageError where the file cannot be read or is no picture of a known format.
    """
    return read_header(path).upright_size


def exif_orientation(path: Path | str) -> int:
    """The EXIF orientation of a picture file, 1..8 (1 = stored upright), from its header alone.

    Raises ImageError where the file cannot be read or is no picture of a known format.
    """
    return read_header(path).orientation


def read_header(path: Path | str) -> ImageHeader:
    """Format, stored size and orientation of a picture file; raises ImageError as image_size."""
    path = Path(path)
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
            try:
                return parse_header(head)
            except ShortHeaderError:
                _check_bytes(os.fstat(file.fileno()).st_size, MAX_PIXELS, str(path))
                return parse_header(head + file.read())
    except OSError as error:
        raise _unreadable(path, error) from error
    except HeaderError as error:
        raise _not_a_picture(str(path), error) from error


def to_network_input(image: Image, preprocessing: Preprocessing) -> Image:
    """Resize an upright RGB ``[H, W, 3]`` uint8 picture to the network's ``[h, w, 3]`` uint8.

    The aspect ratio is not kept (paper section 2.2: SSD squashes every picture to its input size).
    The mean, the standard deviation and the channel order are the network's own business.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"to_network_input takes RGB [H, W, 3] of uint8, not {_describe(image)}: "
            "pass what read_image returns"
        )
    height, width = preprocessing.image_size
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    if preprocessing.interpolation == "linear-corner":
        return resize_by_corners(image, height, width)
    how = cv2.INTER_AREA if preprocessing.interpolation == "area" else cv2.INTER_LINEAR
    return _uint8(cv2.resize(image, (width, height), interpolation=how))


def write_image(path: Path | str, image: Image, *, quality: int = 92) -> None:
    """Write an RGB ``[H, W, 3]`` uint8 picture; the format follows the name's ending.

    ``quality`` (0..100) is for JPEG and WebP. Raises ImageError where the format cannot be
    written or the file cannot be made.
    """
    path = Path(path)
    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }.get(path.suffix.lower(), [])
    try:
        done, encoded = cv2.imencode(
            path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options
        )
    except cv2.error as error:
        raise ImageError(
            f"{path}: pictures cannot be written as {path.suffix!r}; use .jpg or .png"
        ) from error
    if not done:
        raise ImageError(f"{path}: the picture could not be encoded; try .png")
    try:
        path.write_bytes(encoded.tobytes())  # cv2.imwrite cannot take every unicode name
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _decode(picture: EncodedPicture, reduction: Reduction) -> Image:
    header, name = picture.header, picture.name
    buffer = np.frombuffer(picture.data, np.uint8)
    try:
        if header.format == "jpeg":
            image = _decode_jpeg(buffer, reduction)
        else:
            image = _decode_any(buffer, header.format, name)
    except cv2.error as error:
        raise _damaged(name) from error
    if image is None:
        raise _damaged(name)
    if header.format == "jpeg":
        expected = (-(-header.height // reduction), -(-header.width // reduction))
        if image.shape[:2] != expected:  # what is planned from the header must fit
            raise _damaged(name)
    # OpenCV always turns a TIFF; every other picture is turned here, by the orientation that
    # image_size knows, so that the two cannot disagree.
    return image if header.format == "tiff" else _turn_upright(image, header.orientation)


def _decode_jpeg(buffer: Image, reduction: Reduction) -> Image | None:
    flags = cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED[reduction]
    if _COLOR_RGB is not None:
        return _maybe_uint8(cv2.imdecode(buffer, _COLOR_RGB | flags))
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | flags)
    return None if image is None else _uint8(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _decode_any(buffer: Image, format: str, name: str) -> Image | None:
    # IMREAD_UNCHANGED alone keeps alpha and 16 bits. An AVIF of 10 or 12 bits would come as uint16
    # without saying its depth, so that format's conversion to 8 bits (and loss of alpha) stays.
    # Neither way is a PNG, WebP or AVIF turned: see _decode.
    avif = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    flags = avif if format == "avif" else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(buffer, flags)
    if image is None:
        return None
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"{name}: its samples are {image.dtype}; convert the picture to 8 or 16 bits"
        )
    return _to_rgb8(image, name, reverse=True)


def _from_array(array: npt.NDArray[np.generic], max_pixels: int) -> Image:
    name = "image array"
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or not array.size:
        raise ImageError(
            f"{name}: expected uint8 or uint16 of shape [H, W, 3] (RGB), [H, W] or [H, W, 4], "
            f"not {_describe(array)}"
        )
    _check_size(array.shape[1], array.shape[0], max_pixels, name)
    return _to_rgb8(array, name)


# From RGB's order and from BGR's, by the number of channels.
_TO_RGB: dict[int, tuple[int | None, int | None]] = {
    1: (cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2RGB),
    3: (None, cv2.COLOR_BGR2RGB),
    4: (None, cv2.COLOR_BGRA2RGBA),
}


def _to_rgb8(pixels: npt.NDArray[np.generic], name: str, *, reverse: bool = False) -> Image:
    """RGB, RGBA or grey of 8 or 16 bits, or with ``reverse`` BGR or BGRA -> RGB uint8."""
    height, width, channels = (*pixels.shape, 1)[:3]
    if channels not in _TO_RGB:
        raise ImageError(f"{name}: a picture of {channels} channels; convert it to RGB")
    if channels == 3 and not reverse and pixels.dtype == np.uint8:
        return _uint8(np.ascontiguousarray(pixels))
    code = _TO_RGB[channels][reverse]
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = pixels[top : top + rows]
        if band.dtype != np.uint8:
            band = band.astype(np.uint16, copy=False) >> 8
        image = np.ascontiguousarray(band, np.uint8)
        if code is not None:
            image = _uint8(cv2.cvtColor(image, code))
        rgb[top : top + rows] = _compose(image) if channels == 4 else image
    return rgb


def _compose(rgba: Image) -> Image:
    """Alpha over BACKGROUND, rounded to the nearest level."""
    colour, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return colour
    # Sums of at most 255 * 255 + 128, and this way of dividing them by 255, fit in 16 bits.
    mixed = colour * alpha + np.array(BACKGROUND, np.uint16) * (255 - alpha) + 128
    mixed += mixed >> 8
    return _uint8((mixed >> 8).astype(np.uint8))


def _turn_upright(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation (EXIF 2.32, tag 0x0112): 5..8 are transposed, then mirrored."""
    if orientation >= 5:
        image = _uint8(cv2.transpose(image))
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if axis is None else _uint8(cv2.flip(image, axis))


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than the limit of {max_pixels:,}; "
            "make it smaller, or raise max_pixels or MULTIBOX_LIMITS"
        )


def _check_bytes(size: int, max_pixels: int, name: str) -> None:
    limit = limits.PICTURE_BYTES_A_PIXEL * max(max_pixels, MAX_PIXELS)
    if size > limit:
        raise ImageError(
            f"{name}: reading it takes {size:,} bytes, more than the limit of {limit:,}; make it "
            "smaller, or raise max_pixels or MULTIBOX_LIMITS"
        )


def _check_scans(scanned: int, max_pixels: int, name: str) -> None:
    """A progressive JPEG may go over its picture again and again, which takes hours."""
    if scanned > _MOST_SCANS * max(max_pixels, MAX_PIXELS):
        raise ImageError(f"{name}: a JPEG of too many scans; save it anew, or as PNG")


def _uint8(array: npt.NDArray[np.generic]) -> Image:
    return np.asarray(array, np.uint8)


def _maybe_uint8(array: npt.NDArray[np.generic] | None) -> Image | None:
    return None if array is None else _uint8(array)


def _describe(array: npt.NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(f"{path}: cannot be read: {error.strerror or error}")


def _not_a_picture(name: str, error: HeaderError) -> ImageError:
    return ImageError(f"{name}: {error}; expected {_FORMATS}")


def _damaged(name: str) -> ImageError:
    return ImageError(
        f"{name}: cannot be decoded: damaged, cut off, or of a kind this OpenCV does not know; "
        "replace the file or convert it to PNG"
    )
