"""Pixels against Pillow, headers against decoding, resizing against plain NumPy."""

import contextlib
import hashlib
import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageOps

from multibox.card import Preprocessing
from multibox.errors import ImageError
from multibox.imaging import (
    BACKGROUND,
    exif_orientation,
    image_size,
    read_image,
    to_network_input,
    write_image,
)

HEIGHT, WIDTH = 40, 60
RGB = np.empty((HEIGHT, WIDTH, 3), np.uint8)
RGB[..., 0] = np.arange(WIDTH) * 4
RGB[..., 1] = np.arange(HEIGHT)[:, None] * 6
RGB[..., 2] = 90


def encoded(picture: PillowImage.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def pillow(mode: str = "RGB") -> PillowImage.Image:
    return PillowImage.fromarray(RGB).convert(mode)


def exif(orientation: int) -> PillowImage.Exif:
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    return tags


def preprocessing(height: int, width: int, interpolation: str = "linear") -> Preprocessing:
    return Preprocessing(
        image_size=(height, width), mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation
    )


ORDINARY = {
    "png": encoded(pillow(), "PNG"),
    "palette png": encoded(pillow("P"), "PNG"),
    "grey png": encoded(pillow("L"), "PNG"),
    "one-bit png": encoded(pillow("1"), "PNG"),
    "opaque rgba png": encoded(pillow("RGBA"), "PNG"),
    "jpeg": encoded(pillow(), "JPEG", quality=95),
    "progressive jpeg": encoded(pillow(), "JPEG", quality=95, progressive=True),
    "grey jpeg": encoded(pillow("L"), "JPEG", quality=95),
    "cmyk jpeg": encoded(pillow("CMYK"), "JPEG", quality=95),
    "lossless webp": encoded(pillow(), "WEBP", lossless=True),
    "bmp": encoded(pillow(), "BMP"),
    "tiff": encoded(pillow(), "TIFF"),
    "gif": encoded(pillow("P"), "GIF"),
    "ppm": encoded(pillow(), "PPM"),
    "pgm": encoded(pillow("L"), "PPM"),
}
if not hasattr(cv2, "IMREAD_COLOR_RGB"):  # OpenCV 4.10 reads no GIF
    del ORDINARY["gif"]
LOSSY = {"jpeg", "progressive jpeg", "grey jpeg", "cmyk jpeg"}


@pytest.mark.parametrize("kind", ORDINARY)
def test_every_format_decodes_as_pillow_decodes_it(kind):
    ours = read_image(ORDINARY[kind])
    theirs = np.array(PillowImage.open(io.BytesIO(ORDINARY[kind])).convert("RGB"))
    assert ours.dtype == np.uint8
    assert ours.flags.c_contiguous
    difference = np.abs(ours.astype(int) - theirs)
    # Chroma upsampling and YCbCr rounding are a decoder's own choice.
    assert difference.max() <= (6 if kind in LOSSY else 0)


@pytest.mark.parametrize("kind", ORDINARY)
def test_the_header_tells_the_decoded_size(kind, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(ORDINARY[kind])
    assert image_size(file) == (WIDTH, HEIGHT)
    assert exif_orientation(file) == 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation, tmp_path):
    options = {"tiffinfo": exif(orientation)} if format == "TIFF" else {"exif": exif(orientation)}
    data = encoded(pillow(), format, **options)
    file = tmp_path / "picture"
    file.write_bytes(data)
    upright = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data))).convert("RGB")

    ours = read_image(file)
    assert ours.shape == (upright.height, upright.width, 3)
    assert np.abs(ours.astype(int) - np.array(upright)).max() <= 12  # lossy ones included
    assert image_size(file) == upright.size
    assert exif_orientation(file) == orientation


def test_a_header_behind_much_metadata_is_found(tmp_path):
    icc = bytes(200_000)
    file = tmp_path / "large-metadata.jpg"
    file.write_bytes(encoded(pillow(), "JPEG", icc_profile=icc, exif=exif(6)))
    assert image_size(file) == (HEIGHT, WIDTH)


def test_damaged_exif_means_upright():
    data = encoded(pillow(), "JPEG", exif=exif(6))
    place = data.index(b"Exif\0\0") + 6
    assert read_image(data[:place] + b"XXXX" + data[place + 4 :]).shape == (HEIGHT, WIDTH, 3)


def test_sixteen_bits_are_shifted_and_keep_their_channel_order():
    deep = (RGB.astype(np.uint16) << 8) + 255
    alpha = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
    for picture in (deep, np.dstack([deep, alpha])):
        bgr = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
        _, png = cv2.imencode(".png", bgr)
        np.testing.assert_array_equal(read_image(png.tobytes()), RGB)
        np.testing.assert_array_equal(read_image(picture), RGB)


@given(st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_alpha_is_composed_over_the_background(colour, alpha):
    rgba = np.full((2, 3, 4), (colour, colour, colour, alpha), np.uint8)
    expected = colour * alpha / 255 + np.array(BACKGROUND) * (1 - alpha / 255)
    assert np.abs(read_image(rgba) - expected).max() <= 0.5 + 1e-9
    png = encoded(PillowImage.fromarray(rgba), "PNG")
    np.testing.assert_array_equal(read_image(png), read_image(rgba))


def test_transparent_palette_entries_show_the_background():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(PillowImage.fromarray(levels).convert("P"), "PNG", transparency=3)
    expected = np.repeat(levels[..., None], 3, axis=2)
    expected[levels == 3] = BACKGROUND
    np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays_become_three_channels(shape):
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    image = read_image(grey)
    assert image.shape == (5, 7, 3)
    assert (image == grey.reshape(5, 7, 1)).all()


def test_a_right_array_is_not_copied():
    assert read_image(RGB) is RGB


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_other_arrays_are_refused_in_one_line(array):
    with pytest.raises(ImageError) as raised:
        read_image(array)
    assert "\n" not in str(raised.value)


def test_float_pictures_are_refused():
    picture = PillowImage.fromarray(np.ones((4, 4), np.float32))
    with pytest.raises(ImageError, match="float32"):
        read_image(encoded(picture, "TIFF"))


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def huge_jpeg() -> bytes:
    data = bytearray(ORDINARY["jpeg"])
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 30_000, 30_000)
    return bytes(data)


@pytest.mark.parametrize("data", [huge_png(), huge_jpeg(), b"P6 30000 30000 255\n"])
def test_too_large_a_picture_is_refused_from_its_header(data):
    start = time.perf_counter()
    with pytest.raises(ImageError, match="30000 x 30000"):
        read_image(data)
    assert time.perf_counter() - start < 0.05  # decoding 900 megapixels would take seconds


def test_the_limit_can_be_set():
    assert read_image(RGB, max_pixels=HEIGHT * WIDTH).shape == RGB.shape
    for source in (RGB, ORDINARY["jpeg"]):
        with pytest.raises(ImageError, match="max_pixels"):
            read_image(source, max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", ORDINARY["png"][:60], b"BM" * 5])
def test_what_is_no_picture_is_an_error_that_names_the_file(data, tmp_path):
    file = tmp_path / "odd name ü.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageError) as raised:
        read_image(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_errors_that_name_them(tmp_path):
    for path in (tmp_path / "missing.jpg", tmp_path):
        for read in (read_image, image_size):
            with pytest.raises(ImageError, match=str(path)):
                read(path)


@pytest.mark.parametrize("kind", ORDINARY)
def test_cut_files_end_in_a_picture_or_an_image_error(kind, capfd):
    data = ORDINARY[kind]
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            assert read_image(data[:length]).dtype == np.uint8
        except ImageError:
            refused += 1
    assert refused >= 1
    assert "ERROR" not in capfd.readouterr().err


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_end_in_a_picture_or_an_image_error(data):
    original = ORDINARY[data.draw(st.sampled_from(sorted(ORDINARY)))]
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, min(200, len(damaged) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    with contextlib.suppress(ImageError):
        assert read_image(bytes(damaged), max_pixels=10**6).shape[2] == 3


@pytest.mark.parametrize("name", ["plain.png", "猫 и собака.PNG", "ä.jpg", "x.webp", "x.bmp"])
def test_written_pictures_are_read_back(name, tmp_path):
    file = tmp_path / name
    write_image(file, RGB)
    back = read_image(str(file)).astype(int)
    lossless = file.suffix.lower() in (".png", ".bmp")
    assert np.abs(back - RGB).max() <= (0 if lossless else 16)


@pytest.mark.parametrize("name", ["x.xyz", "none", "missing/x.png"])
def test_what_cannot_be_written_is_an_error(name, tmp_path):
    with pytest.raises(ImageError, match=name):
        write_image(tmp_path / name, RGB)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing with half-pixel centres, in float64, straight from the definition."""
    result = np.zeros((height, width, 3))
    for y in range(height):
        at_y = min(max((y + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
        y0, fy = int(at_y), at_y % 1
        y1 = min(y0 + 1, image.shape[0] - 1)
        for x in range(width):
            at_x = min(max((x + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            x0, fx = int(at_x), at_x % 1
            x1 = min(x0 + 1, image.shape[1] - 1)
            upper = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
            lower = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
            result[y, x] = upper * (1 - fy) + lower * fy
    return result


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_resizing_is_bilinear_with_half_pixel_centres(source, target, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*source, 3), np.uint8)
    result = to_network_input(image, preprocessing(*target))
    assert result.shape == (*target, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert np.abs(result - bilinear(image, *target)).max() <= 1


def test_area_interpolation_averages():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    result = to_network_input(image, preprocessing(10, 20, "area"))
    means = image.reshape(10, 4, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(result - means).max() <= 0.5 + 1e-6


def test_the_network_input_is_the_same_bytes_for_ever():
    y, x = np.mgrid[0:75, 0:100]
    image = np.dstack([x * 7 % 256, y * 5 % 256, (x * y) % 256]).astype(np.uint8)
    result = to_network_input(read_image(image), preprocessing(300, 300))
    assert hashlib.sha256(result.tobytes()).hexdigest() == (
        "618f38334c48b0f96568ad18cefb80d885cde480fa600cc3e0f47b0bf5cf5371"
    )


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_only_what_read_image_returns_is_resized(image):
    with pytest.raises(ImageError, match="read_image"):
        to_network_input(image, preprocessing(8, 8))


def test_headers_are_read_quickly(tmp_path):
    files = [tmp_path / f"{number}.jpg" for number in range(300)]
    for file in files:
        Path(file).write_bytes(ORDINARY["jpeg"] + bytes(100_000))
    start = time.perf_counter()
    assert {image_size(file) for file in files} == {(WIDTH, HEIGHT)}
    assert time.perf_counter() - start < 0.3  # 1 ms a file; it takes a twentieth of that


def corner_aligned(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """TensorFlow 1's ResizeBilinear, one sample at a time, in exact-enough float64."""
    result = np.empty((height, width, 3))
    for i in range(height):
        y = i * image.shape[0] / height
        below = min(int(y) + 1, image.shape[0] - 1)
        for j in range(width):
            x = j * image.shape[1] / width
            right = min(int(x) + 1, image.shape[1] - 1)
            corners = image[[int(y), int(y), below, below], [int(x), right, int(x), right]]
            weights = np.array([(1 - y % 1) * (1 - x % 1), (1 - y % 1) * (x % 1)])
            weights = np.append(weights, [(y % 1) * (1 - x % 1), (y % 1) * (x % 1)])
            result[i, j] = weights @ corners
    return result


@pytest.mark.parametrize("target", [(30, 30), (77, 20), (13, 61), (1, 1)])
def test_corner_aligned_resizing_is_exact_to_rounding(target: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    result = to_network_input(image, preprocessing(*target, "linear-corner"))
    assert result.dtype == np.uint8
    assert np.abs(result - corner_aligned(image, *target)).max() <= 0.5 + 1e-3
    assert (result[0, 0] == image[0, 0]).all()
