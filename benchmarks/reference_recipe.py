"""What torchvision's own SSDLite parts learn from the same pictures, measured as ours are.

Its SSD with SSDLite head and extra layers, default boxes, matcher, loss and mining; MobileNetV2
from ImageNet; the augmentation, optimiser and schedule of its detection references (``ssdlite``
preset, or ``ssd`` with ``--augmentation ssd``); float32, as they run. Written for the comparison
with ``multibox train`` on the same data in an equal budget of pictures:

    python benchmarks/reference_recipe.py DATA --classes cat,dog --pictures 28848 --seed 0 --out RUN

DATA needs the splits train and val. VOC07 AP on val is printed and written to RUN/metrics.json;
RUN/state.pt is kept at every thousand pictures or so, and a run that was stopped goes on from it.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from multibox.data import DataSet, Sample, open_data
from multibox.detections import Detections
from multibox.evaluation import evaluate_detections
from multibox.imaging import read_image

SIZE = 320
BATCH = 16
# 0.15 for the references' 192 pictures a step, and their weight decay and cosine.
RATE = 0.15 * BATCH / 192
WEIGHT_DECAY = 4e-5
KEEP_STATE_EVERY = 64


class MobileNetV2Maps(nn.Module):
    """The maps that torchvision's SSDLite takes of a MobileNet, and its four extra ones."""

    def __init__(self) -> None:
        super().__init__()
        features = torchvision.models.mobilenet_v2(weights="IMAGENET1K_V1").features
        first, *rest = features[14].conv
        self.features = nn.Sequential(
            nn.Sequential(*features[:14], first), nn.Sequential(*rest, *features[15:])
        )
        channels = (1280, 512, 256, 256, 128)
        self.extra = nn.ModuleList(
            ssdlite._extra_block(before, after, nn.BatchNorm2d)
            for before, after in pairwise(channels)
        )
        ssdlite._normal_init(self.extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = []
        for part in (*self.features, *self.extra):
            images = part(images)
            maps.append(images)
        return {str(i): each for i, each in enumerate(maps)}


def build(classes: int) -> SSD:
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    head = ssdlite.SSDLiteHead(
        [576, 1280, 512, 256, 256, 128],
        anchors.num_anchors_per_location(),
        classes + 1,
        nn.BatchNorm2d,
    )
    return SSD(
        MobileNetV2Maps(),
        anchors,
        (SIZE, SIZE),
        classes + 1,
        head=head,
        score_thresh=0.01,
        nms_thresh=0.45,
        detections_per_img=200,
        topk_candidates=400,
    )


class TrainingPictures(Dataset):
    """The references' pictures: photographs that their transforms change at random."""

    def __init__(self, samples: list[Sample], augmentation: str) -> None:
        # Their crop needs an object, and their data sets leave pictures without one out.
        self.samples = [sample for sample in samples if len(sample.boxes)]
        distortions = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=[123, 117, 104])]
        self.chain = v2.Compose(
            [
                *(distortions if augmentation == "ssd" else []),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
                v2.ToPureTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        sample = self.samples[number]
        image = Image(torch.from_numpy(read_image(sample.image)).permute(2, 0, 1))
        boxes = BoundingBoxes(sample.boxes, format="XYXY", canvas_size=image.shape[1:])
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.labels) + 1}
        return self.chain(image, target)


def batches(pictures: TrainingPictures, steps: range, seed: int, workers: int) -> Iterator[list]:
    """The batches of these steps; their pictures do not depend on where a run was stopped."""
    per_epoch = len(pictures) // BATCH

    def numbers(step: int) -> list[int]:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(pictures))
        return order[place * BATCH : (place + 1) * BATCH].tolist()

    torch.manual_seed(seed + steps.start)
    return iter(
        DataLoader(
            pictures,
            batch_sampler=[numbers(s) for s in steps],
            num_workers=workers,
            collate_fn=list,
        )
    )


def train(model: SSD, pictures: TrainingPictures, arguments: argparse.Namespace) -> None:
    total = max(1, round(arguments.pictures / BATCH))
    optimiser = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=WEIGHT_DECAY)
    # They warm up over the first epoch, at most a thousand steps, and then follow half a cosine.
    warm_up = min(1000, len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 1e-3, total_iters=warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, total - warm_up)),
        ],
        milestones=[warm_up],
    )
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    kept, first = arguments.out / "state.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first = state.pop("step")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    model.train()
    start = time.monotonic()
    loader = batches(pictures, range(first, total), arguments.seed, arguments.workers)
    for step, batch in enumerate(loader, first + 1):
        images, targets = zip(*batch, strict=True)
        loss = sum(model(list(images), list(targets)).values())
        if not loss.isfinite():
            raise SystemExit(f"the loss is {loss.item()} at step {step}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % KEEP_STATE_EVERY == 0 or step == total:
            arrays = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"step": step, **arrays}, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
            pace = (step - first) * BATCH / (time.monotonic() - start)
            print(f"step {step}/{total}  loss {loss.item():.3f}  {pace:.1f} pictures/s", flush=True)


@torch.inference_mode()
def detect(model: SSD, data: DataSet) -> Iterator[Detections]:
    model.eval()
    for sample in data.samples:
        image = read_image(sample.image)
        found = model([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
        yield Detections(
            boxes=found["boxes"].numpy(),
            scores=found["scores"].numpy(),
            labels=found["labels"].numpy() - 1,
            names=data.names,
            width=image.shape[1],
            height=image.shape[0],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", help="A,B: some of the data's classes")
    parser.add_argument("--pictures", type=int, required=True, help="how many are seen in all")
    parser.add_argument("--augmentation", choices=("ssdlite", "ssd"), default="ssdlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    classes = arguments.classes.split(",") if arguments.classes else None
    learned, judged = (
        open_data(arguments.data, split=s, classes=classes) for s in ("train", "val")
    )
    torch.manual_seed(arguments.seed)
    model = build(len(learned.names))
    train(model, TrainingPictures(learned.samples, arguments.augmentation), arguments)
    found = list(detect(model, judged))
    evaluation = evaluate_detections(found, judged.samples, judged.names, metric="voc07")
    figures = {"pictures": arguments.pictures, "seed": arguments.seed, **evaluation.to_dict()}
    (arguments.out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in evaluation.per_class.items():
        print(f"{name:12} {value:.3f}" if value is not None else f"{name:12} -")
    print(f"VOC07 mAP    {evaluation.map:.3f}")


if __name__ == "__main__":
    main()
