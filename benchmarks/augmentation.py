"""Decode + the paper's augmentation, images per second on one core: ours against torchvision v2.

Both get the same JPEG bytes (500 x 375, about 90 kB, made here) with the same boxes, on one thread
each, in alternating rounds of one process; the medians of the rounds are compared.

    python benchmarks/augmentation.py [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from torchvision import io as tv_io
from torchvision import tv_tensors
from torchvision.transforms import v2

from multibox.data.augmentation import Augmentation
from multibox.data.samples import Sample
from multibox.data.seeding import sample_rng
from multibox.imaging import read_image

SIZE = (300, 300)
MEAN = (123, 117, 104)
WIDTH, HEIGHT = 500, 375
PICTURES = 32
ROUNDS = 9
OBJECTS = 5


def make_picture(rng: np.random.Generator) -> np.ndarray:
    """Noise with the falling spectrum of photographs: octaves of smooth colour, then some grain."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        grid = rng.normal(0, 1, (cells * 3 // 4 + 1, cells, 3)).astype(np.float32)
        grid = 0.7 * grid.mean(axis=2, keepdims=True) + 0.3 * grid
        picture += cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / cells**0.55
    picture += rng.normal(0, 0.2, (HEIGHT, WIDTH, 1)).astype(np.float32)
    return np.clip(118 + 55 * picture, 0, 255).astype(np.uint8)


def make_boxes(rng: np.random.Generator) -> np.ndarray:
    """Objects of 8 to 60 % of the picture's sides, wholly inside it."""
    sides = rng.uniform(0.08, 0.6, (OBJECTS, 2)) * (WIDTH, HEIGHT)
    corner = rng.random((OBJECTS, 2)) * ((WIDTH, HEIGHT) - sides)
    return np.hstack([corner, corner + sides]).astype(np.float32)


def make_data() -> list[tuple[bytes, np.ndarray]]:
    rng = np.random.default_rng(0)
    data = []
    for _ in range(PICTURES):
        picture = cv2.cvtColor(make_picture(rng), cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        data.append((encoded.tobytes(), make_boxes(rng)))
    return data


def multibox_round(data: list[tuple[bytes, np.ndarray]], epoch: int) -> None:
    augment = Augmentation(SIZE, MEAN)
    labels = np.arange(OBJECTS)
    for index, (encoded, boxes) in enumerate(data):
        image = read_image(encoded)
        sample = Sample.of(image, boxes, labels, width=WIDTH, height=HEIGHT)
        augment(image, sample, sample_rng(0, epoch, index))


def torchvision_round(data: list[tuple[bytes, np.ndarray]], epoch: int) -> None:
    torch.manual_seed(epoch)
    chain = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=list(MEAN)),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
            v2.Resize(SIZE, antialias=True),
        ]
    )
    labels = torch.arange(OBJECTS)
    for encoded, boxes in data:
        raw = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        image = tv_tensors.Image(tv_io.decode_jpeg(raw, mode=tv_io.ImageReadMode.RGB))
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH)),
            "labels": labels,
        }
        chain(image, target)


def decode_round(data: list[tuple[bytes, np.ndarray]], epoch: int) -> None:
    for encoded, _ in data:
        read_image(encoded)


def measure(data: list[tuple[bytes, np.ndarray]]) -> dict[str, float]:
    """Median images per second of each contestant."""
    contestants: dict[str, Callable[[list[tuple[bytes, np.ndarray]], int], None]] = {
        "multibox": multibox_round,
        "torchvision_v2": torchvision_round,
        "multibox, decoding only": decode_round,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for epoch in range(-1, ROUNDS):  # the first round warms up
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant(data, epoch + 1)
            if epoch >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: len(data) / statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = make_data()
    rates = measure(data)
    ratio = rates["multibox"] / rates["torchvision_v2"]
    kilobytes = statistics.mean(len(encoded) for encoded, _ in data) / 1000
    print(
        f"{PICTURES} JPEGs of {WIDTH} x {HEIGHT}, {kilobytes:.0f} kB, {OBJECTS} objects; one core"
    )
    print(f"{'decode + augment to 300 x 300':<32}{'images/s':>10}{'ms/image':>10}")
    for name, rate in rates.items():
        print(f"{name:<32}{rate:>10.1f}{1000 / rate:>10.2f}")
    print(f"multibox is {ratio:.1f} times as fast as torchvision v2")
    if arguments.json:
        report = {
            "ratios": {"torchvision_v2": ratio},
            "images_per_second": rates,
            "machine": platform.machine(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
