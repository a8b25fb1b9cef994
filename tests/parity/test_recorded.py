"""Our networks under the ports' weights against what the ports' own code answered."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multibox.default_boxes import default_boxes
from multibox.errors import InputError
from multibox.importers.imported import Imported
from multibox.parity import recorded
from multibox.parity.recorded import CONVERT, check, check_variant, load, variant_of, weights

SLOW = {"lufficc-vgg_ssd512"}
V1, V2, RESNET = "qfgaohao-mb1-ssd", "qfgaohao-mb2-ssd-lite", "mlperf-resnet34"

Change = Callable[[Imported], Imported]


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in recorded.variants()
    ],
)
def test_our_network_answers_as_the_original_did(variant: str) -> None:
    parity = check_variant(variant)
    assert parity.class_logits < 1e-4
    assert parity.box_offsets < 1e-4
    assert (parity.lost, parity.gained) == (0, 0)
    assert parity.detections is not None
    assert parity.detections > 20
    assert parity.boxes is not None
    assert parity.boxes < 1e-2
    assert parity.scores is not None
    assert parity.scores < 1e-4


@pytest.mark.parametrize("variant", recorded.variants())
def test_default_boxes_are_the_originals(variant: str) -> None:
    record = load(variant)
    card = CONVERT[record.source](_zeros(variant), Path("x"), None).card
    ours = default_boxes(card.default_boxes)
    at = list(record.default_boxes)
    assert max(at) == len(ours) - 1
    np.testing.assert_allclose(ours[at], list(record.default_boxes.values()), atol=2e-7)


def _arrays(change: Callable[[dict[str, Any]], None]) -> Change:
    def changed(imported: Imported) -> Imported:
        arrays = dict(imported.arrays)
        change(arrays)
        return Imported(arrays, imported.card)

    return changed


def _card(part: str, **values: Any) -> Change:
    def changed(imported: Imported) -> Imported:
        inner = getattr(imported.card, part).model_copy(update=values)
        return Imported(imported.arrays, imported.card.model_copy(update={part: inner}))

    return changed


def _two_classes_swapped(arrays: dict[str, Any]) -> None:
    bias = arrays["heads.classes.0.bias"].copy()
    weight = arrays["heads.classes.0.weight"].copy()
    weight[[1, 2]], bias[[1, 2]] = weight[[2, 1]], bias[[2, 1]]
    arrays["heads.classes.0.weight"], arrays["heads.classes.0.bias"] = weight, bias


def _value_by_value(arrays: dict[str, Any]) -> None:
    weight = arrays["heads.boxes.0.weight"]
    swapped = weight.reshape(4, 4, *weight.shape[1:]).swapaxes(0, 1)
    arrays["heads.boxes.0.weight"] = swapped.reshape(weight.shape)


def _first_boxes_exchanged(arrays: dict[str, Any]) -> None:
    weight = arrays["heads.boxes.5.weight"].copy()
    weight[:4], weight[4:8] = weight[4:8], weight[:4].copy()
    arrays["heads.boxes.5.weight"] = weight


def _bias_forgotten(arrays: dict[str, Any]) -> None:
    theirs = weights(load(V2))["classification_headers.0.0.bias"]
    mean = arrays["heads.classes.0.1.running_mean"]
    arrays["heads.classes.0.1.running_mean"] = mean + theirs


def _norms_exchanged(arrays: dict[str, Any]) -> None:
    one, other = "backbone.features.8.1.weight", "backbone.features.9.1.weight"
    arrays[one], arrays[other] = arrays[other], arrays[one]


MUTATIONS = {
    "two classes": (V1, _arrays(_two_classes_swapped)),
    "two boxes of the last map": (V1, _arrays(_first_boxes_exchanged)),
    "two norms": (V1, _arrays(_norms_exchanged)),
    "blue first": (V1, _card("preprocessing", channel_order="bgr")),
    "another mean": (V1, _card("preprocessing", mean=(127.5, 127.5, 127.5))),
    "no bias before the norm": (V2, _arrays(_bias_forgotten)),
    "the extra layers' activation": (V2, _card("architecture", extra_kind="separable")),
    "norm epsilon": (V2, _card("architecture", norm_epsilon=1e-3)),
    "head channels value by value": (RESNET, _arrays(_value_by_value)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_mapping_does_not_pass(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, change = MUTATIONS[mutation]
    source = load(variant).source
    convert = CONVERT[source]

    def wrong(arrays: Mapping[str, Any], path: Path, names: Sequence[str] | None) -> Imported:
        return change(convert(arrays, path, names))

    monkeypatch.setitem(CONVERT, source, wrong)
    parity = check_variant(variant)
    assert max(parity.class_logits, parity.box_offsets) > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        _card("default_boxes", variances=(0.1, 0.1, 0.1, 0.1)),
        _card("postprocessing", iou_threshold=0.9),
    ],
    ids=["variances", "IoU threshold"],
)
def test_wrong_decoding_or_suppression_does_not_pass(
    change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = CONVERT["qfgaohao"]
    monkeypatch.setitem(CONVERT, "qfgaohao", lambda *args: change(convert(*args)))
    parity = check_variant(V1)
    assert parity.class_logits < 1e-4
    assert parity.lost or parity.gained or (parity.boxes or 0) > 1


def test_an_imported_file_finds_its_record_whatever_its_classes() -> None:
    for variant in recorded.variants():
        record = load(variant)
        imported = CONVERT[record.source](_zeros(variant), Path("x"), None)
        one_class = imported.card.model_copy(update={"names": ("cat",)})
        assert variant_of(record.source, one_class) == variant


def test_check_names_the_project_and_the_commit() -> None:
    imported = CONVERT["qfgaohao"](_zeros(V1), Path("x"), None)
    said = check("qfgaohao", imported).lines()[0]
    assert "recorded answers of qfgaohao/pytorch-ssd@7a839cb, generated weights" in said


def test_a_detector_without_a_record_is_refused() -> None:
    imported = CONVERT["qfgaohao"](_zeros(V1), Path("x"), None)
    with pytest.raises(InputError, match="no recorded answers of lufficc"):
        check("lufficc", imported)


def _zeros(variant: str) -> dict[str, Any]:
    record = load(variant)
    arrays: dict[str, Any] = {}
    for name, (outputs, inputs, kernel, bias) in record.convolutions.items():
        shape = (outputs, inputs, kernel, kernel)
        arrays[f"{name}.weight"] = np.broadcast_to(np.float32(0), shape)
        if bias:
            arrays[f"{name}.bias"] = np.zeros(outputs)
    for name, channels in record.norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{part}"] = np.zeros(channels)
    return arrays | {name: np.zeros(channels) for name, channels in record.lengths.items()}
