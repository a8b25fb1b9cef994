"""An exported file against PyTorch, run as any other program would run it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from multibox.card import ModelCard
from multibox.engines import EngineName, ExportedModel, open_engine
from multibox.engines.base import RawDetections
from multibox.engines.graph import RAW, WHOLE
from multibox.engines.openvino_core import openvino_core
from multibox.engines.raw_outputs import BoxDecoder, to_scores
from multibox.engines.torch import TorchEngine
from multibox.exporting.detection_graph import BOXES, SCORES
from multibox.parity.compare import Parity, compare
from multibox.parity.found import detections_of, found_in
from multibox.parity.pictures import fixed_pictures
from multibox.parity.reference import Found, RawOutputs

Images = npt.NDArray[np.uint8]
Run = Callable[[Images], Mapping[str, npt.NDArray[Any]]]
_ERRORS_ONLY = 3
# Further apart than float32 moves a score.
_EQUAL_SCORES = 1e-5


class Tolerance(NamedTuple):
    """What rounding may change; more than that is a fault of the export."""

    raw: float
    """Of raw outputs, as a share of the largest."""
    boxes: float
    """Of decoded boxes before suppression, cut to the picture; pixels."""
    scores: float
    """Of scores before suppression, 0..1."""
    unpaired: float
    """Detections lost and gained, as a share of all. Of two boxes that overlap and score the same
    to the last digits either may be the one that stays."""


# 8 bits are no rounding: there accuracy is measured instead.
TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(raw=1e-3, boxes=0.1, scores=1e-3, unpaired=0.02),
    "fp16": Tolerance(raw=2e-2, boxes=2.0, scores=0.05, unpaired=0.1),
}


class Checked(NamedTuple):
    """The figures to report, and what is out of tolerance; empty when nothing is."""

    parity: Parity
    faults: tuple[str, ...]


def check(file: Path, engine: TorchEngine, precision: str, nms: bool) -> Checked:
    """Run ``file``, ONNX in onnxruntime and an IR in OpenVINO, on the fixed pictures.

    All at once, while PyTorch sees one by one: the batch must make no difference. Then once more
    with inner tensors as outputs, for the raw values before suppression.
    """
    card = engine.card
    keep = card.postprocessing.keep
    images = fixed_pictures(card.preprocessing)
    outputs = engine.network(images)
    theirs = RawOutputs(*(output.numpy() for output in outputs))
    whole = open_file(file, WHOLE if nms else RAW)(images)
    inner = open_file(file, (*RAW, SCORES, BOXES))(images) if nms else whole
    ours = RawOutputs(inner["class_logits"], inner["box_offsets"])
    parity = compare(
        engine_version(),
        theirs,
        ours,
        card.preprocessing.image_size,
        _comparable(engine.detections(outputs), keep),
        _comparable(_detections(whole) if nms else detections_of(ours, card), keep),
    )
    if precision not in TOLERANCES:
        return Checked(parity, _faults_of_int8(file, images, ours, whole if nms else None, card))
    tolerance = TOLERANCES[precision]
    faults = _faults(parity, tolerance)
    if nms and not faults:
        decoded = (inner[SCORES], inner[BOXES])
        faults = _decoding_faults(card, theirs, decoded, tolerance)
    return Checked(parity, tuple(faults))


def _faults_of_int8(
    file: Path,
    images: Images,
    raw: RawOutputs,
    whole: Mapping[str, npt.NDArray[Any]] | None,
    card: ModelCard,
) -> tuple[str, ...]:
    """Whether what any program finds is what multibox's engine finds, with which accuracy goes.

    ``whole`` is None for a file without suppression.
    """
    kind: EngineName = "openvino" if file.suffix == ".xml" else "onnxruntime"
    engine = open_engine(ExportedModel(file, card), kind)
    size = card.preprocessing.image_size
    if whole is None:
        own = compare("multibox", RawOutputs(*engine.network(images)), raw, size)
    else:
        keep = card.postprocessing.keep
        found = _comparable(engine(images), keep), _comparable(_detections(whole), keep)
        own = compare("multibox", raw, raw, size, *found)
    return tuple(_faults(own, TOLERANCES["fp16"]))


def _comparable(detections: RawDetections, keep: int) -> list[Found]:
    """Each picture's detections, without those that are in no order, given rounding.

    Scores near 0 say nothing, and a list of ``keep`` is cut off anywhere among equals. Of a network
    that has learned nothing these may be all.
    """
    found = []
    for boxes, scores, labels in found_in(detections):
        cut_off = scores.min() + _EQUAL_SCORES if len(scores) == keep else 0.0
        ordered = scores >= max(TOLERANCES["fp32"].scores, cut_off)
        found.append(Found(boxes[ordered], scores[ordered], labels[ordered]))
    return found


def open_file(path: Path, outputs: Sequence[str]) -> Run:
    """Load an ONNX file or an IR; ``outputs`` may be inner tensors of it too."""
    return (_open_ir if path.suffix == ".xml" else _open_onnx)(path, outputs)


def engine_version() -> str:
    """The reference's name."""
    import torch

    return f"PyTorch {torch.__version__.partition('+')[0]}"


def _open_onnx(path: Path, outputs: Sequence[str]) -> Run:
    model: onnx.ModelProto = onnx.load(path)
    declared = {output.name for output in model.graph.output}
    for name in outputs:
        if name not in declared:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    source = path if declared.issuperset(outputs) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return lambda images: dict(
        zip(outputs, session.run(list(outputs), {"images": images}), strict=True)
    )


def _open_ir(path: Path, outputs: Sequence[str]) -> Run:
    core = openvino_core()
    model = core.read_model(path)
    declared = {name for output in model.outputs for name in output.names}
    model.add_outputs([name for name in outputs if name not in declared])
    # By itself OpenVINO computes in bfloat16 where that is faster.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    at_once = model.input().partial_shape[0]

    def some(images: Images) -> list[npt.NDArray[Any]]:
        results = compiled({"images": images})
        return [np.array(results[name]) for name in outputs]

    def run(images: Images) -> dict[str, npt.NDArray[Any]]:
        step = len(images) if at_once.is_dynamic else at_once.get_length()
        parts = [some(images[i : i + step]) for i in range(0, len(images), step)]
        return dict(zip(outputs, map(np.concatenate, zip(*parts, strict=True)), strict=True))

    return run


def _detections(outputs: Mapping[str, npt.NDArray[Any]]) -> RawDetections:
    num, boxes, scores, classes = (outputs[name] for name in WHOLE)
    return RawDetections(num[:, 0], boxes, scores, classes)


def _faults(parity: Parity, tolerance: Tolerance) -> list[str]:
    faults = []
    bound = tolerance.raw * max(1.0, parity.magnitude)
    # Written so that a difference which is no number is a fault.
    if not max(parity.class_logits, parity.box_offsets) <= bound:
        faults.append(
            f"class scores by {parity.class_logits:.2g}, box offsets by {parity.box_offsets:.2g} "
            f"(at most {bound:.2g})"
        )
    unpaired = (parity.lost or 0) + (parity.gained or 0)
    bound = 2 + tolerance.unpaired * (parity.detections or 0)
    if unpaired > bound:
        faults.append(f"in {unpaired} of {parity.detections} detections (at most {int(bound)})")
    return faults


def _decoding_faults(
    card: ModelCard,
    raw: RawOutputs,
    decoded: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    tolerance: Tolerance,
) -> list[str]:
    scores, boxes = decoded
    height, width = card.preprocessing.image_size
    expected = BoxDecoder(card.default_boxes, card.postprocessing)(raw.box_offsets).clip(0, 1)
    moved = np.abs(boxes.clip(0, 1) - expected) * np.array([width, height] * 2)
    changed = np.abs(scores - to_scores(raw.class_logits, card.postprocessing))
    return [
        f"{what} by {largest:.2g} {unit} (at most {bound:g})"
        for what, largest, unit, bound in (
            ("boxes", float(moved.max()), "pixels", tolerance.boxes),
            ("scores", float(changed.max()), "of 1", tolerance.scores),
        )
        if not largest <= bound
    ]
