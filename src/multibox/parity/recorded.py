"""What the code of projects that are no packages once answered, to hold our networks against.

The PyTorch ports cannot be installed beside us, so their answers are kept, one file a variant in
``recorded/``. Each was made by running the original code, at the commit it names, on the generated
weights and the generated picture of this file: the network in evaluation mode, fed by the
project's own preprocessing, then its own decoding and suppression. Kept are 66 class logits and
66 box offsets or more, spread over all feature maps (numbered in our order of boxes, then of
values), the mean and the mean magnitude of all of them, some default boxes, and the detections from
``least_score`` up, cut to the picture. Where the original lays boxes out otherwise (NVIDIA: value
by value), its outputs were reordered by its own default boxes first.

So a variant's importer, card, network and post-processing are compared with the original from end
to end, though not with the weights of one file.

The weights follow from the arrays' names alone. Array NAME takes the 32-bit halves, lower first,
of the raw output of PCG64 seeded with SeedSequence([2016, CRC-32 of NAME]); the upper 24 bits of
each are a number u in [0, 1), and the array is low + u (high - low). Weights of convolutions lie
within sqrt(6 / inputs) either way (He 2015) times the variant's gain, which brings pictures and
outputs to the scale of a trained network's; biases within 0.1; a norm's factors in 0.8..1.2,
variances in 0.5..1.5 and means within 0.2; the lengths of an L2 norm in 16..24. The picture is
blocks of 20 pixels in 0..191 with noise in 0..63 on top.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import cast
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict

from multibox.card import ExtraKind, ModelCard
from multibox.errors import InputError
from multibox.importers import amdegroot, lufficc, nvidia, qfgaohao
from multibox.importers.imported import Array, Imported
from multibox.parity.compare import Parity, compare
from multibox.parity.reference import Floats, Found, RawOutputs
from multibox.ssd.model import SSD
from multibox.ssd.postprocess import postprocess

Convert = Callable[[Mapping[str, Array], Path, Sequence[str] | None], Imported]

CONVERT: dict[str, Convert] = {
    "amdegroot": amdegroot.convert,
    "lufficc": lufficc.convert,
    "qfgaohao": qfgaohao.convert,
    "nvidia": nvidia.convert,
}
"""By source, what brings a project's arrays under our names."""

_SEED = 2016
_BLOCK = 20


class Recorded(BaseModel):
    """One variant: what its weights look like, and what the original made of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    project: str
    commit: str
    backbone: str
    extra_kind: ExtraKind
    image_size: tuple[int, int]
    gains: dict[str, float]
    convolutions: dict[str, tuple[int, int, int, bool]]
    """outputs, inputs of a group, kernel, whether there is a bias"""
    norms: dict[str, int]
    lengths: dict[str, int]
    logits: dict[int, float]
    offsets: dict[int, float]
    logit_means: tuple[float, float]
    offset_means: tuple[float, float]
    default_boxes: dict[int, tuple[float, float, float, float]]
    least_score: float
    found: list[tuple[int, float, float, float, float, float]]
    """label, score, x0, y0, x1, y1 in 0..1"""


def check(source: str, imported: Imported) -> Parity:
    """Hold the recorded answers for the variant of ``imported`` against our network's.

    ``source`` is the project's name in ``multibox import --from``.

    Raises: InputError when there is no record of that variant.
    """
    return check_variant(variant_of(source, imported.card))


def check_variant(variant: str) -> Parity:
    """The recorded answers of ``variant``, one of :func:`variants`, against our network's."""
    recorded = load(variant)
    imported = CONVERT[recorded.source](weights(recorded), Path(variant), None)
    card = imported.card
    module = SSD(card).eval()
    module.load_state_dict({name: torch.as_tensor(a) for name, a in imported.arrays.items()})
    with torch.inference_mode():
        logits, offsets = module(torch.from_numpy(picture(card.preprocessing.image_size)[None]))
        boxes, settings = card.default_boxes, card.postprocessing
        kept = postprocess(logits, offsets, module.default_boxes, boxes.variances, settings)
    strong = (kept.scores[0] >= recorded.least_score).numpy()
    ours = RawOutputs(
        _sampled(logits.numpy(), recorded.logits), _sampled(offsets.numpy(), recorded.offsets)
    )
    theirs = RawOutputs(
        np.array([[*recorded.logits.values(), *recorded.logit_means]], np.float32),
        np.array([[*recorded.offsets.values(), *recorded.offset_means]], np.float32),
    )
    rows = np.array(recorded.found, np.float32).reshape(-1, 6)
    return compare(
        f"recorded answers of {recorded.project}@{recorded.commit}, generated weights",
        theirs,
        ours,
        recorded.image_size,
        [Found(rows[:, 2:], rows[:, 1], rows[:, 0].astype(np.int64))],
        [
            Found(
                kept.boxes[0].numpy()[strong],
                kept.scores[0].numpy()[strong],
                kept.classes[0].numpy()[strong].astype(np.int64),
            )
        ],
    )


def variants() -> list[str]:
    """The names of all records."""
    files = (file.name for file in _folder().iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


@cache
def load(variant: str) -> Recorded:
    """One record by its name."""
    return Recorded.model_validate_json((_folder() / f"{variant}.json").read_bytes())


def variant_of(source: str, card: ModelCard) -> str:
    """The record of the same network, whatever its classes.

    Raises: InputError when there is none.
    """
    key = (
        source,
        card.architecture.backbone,
        card.architecture.extra_kind,
        card.preprocessing.image_size,
    )
    for name in variants():
        one = load(name)
        if (one.source, one.backbone, one.extra_kind, one.image_size) == key:
            return name
    raise InputError(f"there are no recorded answers of {source} for {card.model} ({key[1]})")


def weights(recorded: Recorded) -> dict[str, Array]:
    """The generated state dict of a variant under the original's names."""
    arrays: dict[str, Array] = {}
    for name, (outputs, inputs, kernel, bias) in recorded.convolutions.items():
        bound = (6 / (inputs * kernel * kernel)) ** 0.5 * recorded.gains.get(name, 1.0)
        shape = (outputs, inputs, kernel, kernel)
        arrays[f"{name}.weight"] = _uniform(f"{name}.weight", shape, -bound, bound)
        if bias:
            arrays[f"{name}.bias"] = _uniform(f"{name}.bias", (outputs,), -0.1, 0.1)
    for name, channels in recorded.norms.items():
        for part, low, high in (
            ("weight", 0.8, 1.2),
            ("bias", -0.1, 0.1),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 1.5),
        ):
            arrays[f"{name}.{part}"] = _uniform(f"{name}.{part}", (channels,), low, high)
        arrays[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)
    for name, channels in recorded.lengths.items():
        arrays[name] = _uniform(name, (channels,), 16, 24)
    return arrays


def picture(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The generated RGB picture ``[height, width, 3]``."""
    height, width = size
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    coarse = _uniform("blocks", (rows, columns, 3), 0, 192).astype(np.uint8)
    blocks = coarse.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:height, :width]
    noise = _uniform("noise", (height, width, 3), 0, 64).astype(np.uint8)
    return cast(npt.NDArray[np.uint8], blocks + noise)


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> Floats:
    # Raw bits: NumPy promises those of its bit generators for ever, not those of distributions.
    count = int(np.prod(shape))
    seed = np.random.SeedSequence([_SEED, crc32(name.encode())])
    raw = np.random.PCG64(seed).random_raw((count + 1) // 2).astype("<u8", copy=False)
    upper = raw.view("<u4")[:count] >> 8
    unit = upper.astype(np.float32) * np.float32(2.0**-24)
    return (np.float32(low) + unit * np.float32(high - low)).reshape(shape)


def _sampled(outputs: Floats, positions: Mapping[int, float]) -> Floats:
    flat = outputs.ravel()
    means = (flat.mean(dtype=np.float64), np.abs(flat).mean(dtype=np.float64))
    return np.array([[*flat[list(positions)], *means]], np.float32)


def _folder() -> Traversable:
    return resources.files("multibox.parity") / "recorded"
