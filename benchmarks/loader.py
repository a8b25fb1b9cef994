"""From JPEG files to batches for the network, pictures a second on one core, beside torchvision v2.

Decoding, the SSD augmentation and stacking, of the same files with the same boxes, on one thread
each, in alternating rounds of one process; the medians of the rounds are compared. torchvision's
chain is that of its SSD references, on tensors, resized as its models do, and then as floats.

    python benchmarks/loader.py [DATA] [--size 300] [--json FILE]

DATA is any labelled data set (its training split, or all); without it JPEGs are made here, 500 x
375 and of about 90 kB. Processor time is counted, so that other work on the machine, and the
disk, disturb little.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from torchvision import io as tv_io
from torchvision import tv_tensors
from torchvision.transforms import v2

from multibox.data import Sample, available_splits, open_data
from multibox.data.augmentation import Augmentation
from multibox.data.batches import Key, TrainingPictures
from multibox.imaging import read_image
from multibox.training.loading import load_batches

MEAN = (123, 117, 104)
WIDTH, HEIGHT, OBJECTS = 500, 375, 5
BATCH = 16
ROUNDS = 15

Round = Callable[[Sequence[int], int], None]


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


def made_samples(folder: Path) -> list[Sample]:
    rng = np.random.default_rng(0)
    samples = []
    for number in range(2 * BATCH):
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), make_picture(rng), [cv2.IMWRITE_JPEG_QUALITY, 92])
        boxes = make_boxes(rng)
        samples.append(Sample.of(path, boxes, range(OBJECTS), width=WIDTH, height=HEIGHT))
    return samples


def read_samples(data: Path) -> list[Sample]:
    split = "train" if "train" in available_splits(data) else None
    # torchvision's crop raises an error where there is no object.
    samples = [sample for sample in open_data(data, split=split).samples if len(sample.boxes)]
    return [sample for sample in samples if str(sample.image).lower().endswith((".jpg", ".jpeg"))]


def multibox_round(samples: list[Sample], size: int, *, exact: bool) -> Round:
    augmentation = Augmentation((size, size), MEAN, exact=exact)
    pictures = TrainingPictures(samples, (size, size), augmentation=augmentation)

    def round(numbers: Sequence[int], epoch: int) -> None:
        keys = iter([[Key(epoch, number) for number in numbers]])
        for _ in load_batches(pictures, keys, workers=0, pinned=False):
            pass

    return round


def torchvision_round(samples: list[Sample], size: int) -> Round:
    chain = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=list(MEAN)),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
            v2.Resize((size, size), antialias=False),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    def round(numbers: Sequence[int], epoch: int) -> None:
        torch.manual_seed(epoch)
        images = []
        for number in numbers:
            sample = samples[number]
            image = tv_io.decode_jpeg(tv_io.read_file(str(sample.image)), tv_io.ImageReadMode.RGB)
            canvas = (image.shape[1], image.shape[2])
            target = {
                "boxes": tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=canvas),
                "labels": torch.from_numpy(sample.labels),
            }
            images.append(chain(image, target)[0])
        torch.stack(images)

    return round


def decoding_round(samples: list[Sample]) -> Round:
    def round(numbers: Sequence[int], epoch: int) -> None:
        for number in numbers:
            read_image(samples[number].image)

    return round


def measure(samples: list[Sample], size: int) -> dict[str, float]:
    """Median pictures a second of each contestant."""
    contestants = {
        "multibox, as modern": multibox_round(samples, size, exact=False),
        "multibox, as paper": multibox_round(samples, size, exact=True),
        "torchvision v2": torchvision_round(samples, size),
        "multibox, decoding only": decoding_round(samples),
    }
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for epoch in range(ROUNDS + 1):  # the first round warms up
        numbers = rng.choice(len(samples), min(BATCH, len(samples)), replace=False).tolist()
        for name, contestant in contestants.items():
            start = time.process_time()
            contestant(numbers, epoch)
            if epoch:
                seconds[name].append((time.process_time() - start) / len(numbers))
    return {name: 1 / statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a labelled data set of JPEGs")
    parser.add_argument("--size", type=int, default=300, help="sides of the network's input")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = read_samples(arguments.data) if arguments.data else made_samples(Path(folder))
        rates = measure(samples, arguments.size)
        kilobytes = statistics.mean(Path(s.image).stat().st_size for s in samples) / 1000
    width, height = (
        statistics.mean(getattr(s, side) for s in samples) for side in ("width", "height")
    )
    print(
        f"{len(samples)} JPEGs, on average {width:.0f} x {height:.0f}, {kilobytes:.0f} kB; one core"
    )
    heading = f"files to batches, {arguments.size} x {arguments.size}"
    print(f"{heading:<32}{'images/s':>10}{'ms/image':>10}")
    for name, rate in rates.items():
        print(f"{name:<32}{rate:>10.1f}{1000 / rate:>10.2f}")
    ratios = {
        f"torchvision v2, {recipe}": rates[f"multibox, as {recipe}"] / rates["torchvision v2"]
        for recipe in ("modern", "paper")
    }
    for name, ratio in ratios.items():
        print(f"{ratio:.1f} times {name}")
    if arguments.json:
        report = {
            "ratios": ratios,
            "images_per_second": rates,
            "data": str(arguments.data or "made"),
            "machine": platform.machine(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
