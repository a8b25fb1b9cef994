"""References for frozen graphs: they answer as TensorFlow did, and notice a wrong import."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorflow_graphs import RECORDED, Form, frozen_graph, pictures

from multibox.default_boxes import default_boxes
from multibox.errors import InputError
from multibox.importers.imported import Imported
from multibox.importers.tensorflow import read
from multibox.parity.compare import Parity, compare
from multibox.parity.reference import Found, RawOutputs, Reference
from multibox.parity.tensorflow import NodeByNode, TensorFlow, reference
from multibox.ssd.model import SSD
from multibox.ssd.postprocess import postprocess

ANSWERS = Path(__file__).parents[1] / "importers" / "recorded_tensorflow"


@pytest.fixture(scope="module", params=RECORDED, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(name) / "graph.pb"
    path.write_bytes(frozen_graph(RECORDED[name]).SerializeToString())
    return path


@pytest.fixture(scope="module")
def carried_out(name: str, path: Path) -> RawOutputs:
    return NodeByNode(path).raw(pictures(RECORDED[name]))


def our_outputs(imported: Imported, images: np.ndarray) -> RawOutputs:
    model = SSD(imported.card).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in imported.arrays.items()})
    with torch.inference_mode():
        logits, offsets = model(torch.from_numpy(images))
    return RawOutputs(logits.numpy(), offsets.numpy())


def our_detections(imported: Imported, ours: RawOutputs) -> list[Found]:
    spec = imported.card.default_boxes
    found = postprocess(
        torch.from_numpy(ours.class_logits),
        torch.from_numpy(ours.box_offsets),
        torch.from_numpy(default_boxes(spec)),
        spec.variances,
        imported.card.postprocessing,
    )
    kept = [slice(int(n)) for n in found.num]
    return [
        Found(*(part[i, kept[i]].numpy() for part in (found.boxes, found.scores, found.classes)))
        for i in range(len(kept))
    ]


def parity(of: Reference, theirs: RawOutputs, ours: RawOutputs, form: Form) -> Parity:
    return compare(of.name, theirs, ours, form.image_size)


def test_the_nodes_give_tensorflows_answers(name: str, carried_out: RawOutputs) -> None:
    answers = json.loads((ANSWERS / f"{name}.json").read_text())
    logits, encodings = answers["class_logits"], answers["box_encodings"]
    theirs = carried_out.class_logits.ravel()[logits["places"]]
    np.testing.assert_allclose(theirs, logits["values"], atol=1e-4)
    # Ours have x first.
    theirs = carried_out.box_offsets[..., [1, 0, 3, 2]].ravel()[encodings["places"]]
    np.testing.assert_allclose(theirs, encodings["values"], atol=1e-4)


def test_an_import_agrees_and_a_wrong_one_does_not(
    name: str, path: Path, carried_out: RawOutputs
) -> None:
    form, imported = RECORDED[name], read(path, None)
    ours = our_outputs(imported, pictures(form))
    right = parity(NodeByNode(path), carried_out, ours, form)
    assert max(right.class_logits, right.box_offsets) < 1e-4

    suffix = "3.weight" if form.lite else "weight"
    weights = imported.arrays[f"heads.boxes.0.{suffix}"].reshape(3, 4, -1)
    swapped = np.ascontiguousarray(weights[:, [1, 0, 2, 3]])
    key = f"heads.boxes.0.{suffix}"
    arrays = {**imported.arrays, key: swapped.reshape(imported.arrays[key].shape)}
    ours = our_outputs(Imported(arrays, imported.card), pictures(form))
    wrong = parity(NodeByNode(path), carried_out, ours, form)
    assert wrong.class_logits < 1e-4
    assert wrong.box_offsets > 0.1


def test_without_tensorflow_the_graph_itself_is_the_reference(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    chosen = reference(path)
    assert chosen.name == "the graph itself, node by node"
    assert chosen.detect(pictures(Form())) is None


def test_an_operation_that_is_not_known(tmp_path: Path) -> None:
    form = Form(splat=True, image_size=(64, 64))
    message = frozen_graph(form)
    path = tmp_path / "graph.pb"
    path.write_bytes(message.SerializeToString())
    whole = NodeByNode(path)
    squeeze = next(n for n in message.node if n.name == b"BoxPredictor_2/BoxPredictor/shape")
    squeeze.op = b"Unheard"
    path.write_bytes(message.SerializeToString())
    images = pictures(form)
    assert len(whole.raw(images).class_logits) == len(images)
    with pytest.raises(InputError, match=r"cannot be run without TensorFlow: .* is a Unheard"):
        NodeByNode(path).raw(images)


@pytest.mark.slow
def test_tensorflow_itself(name: str, path: Path, carried_out: RawOutputs) -> None:
    pytest.importorskip("tensorflow")
    form, imported = RECORDED[name], read(path, None)
    images = pictures(form)
    theirs = reference(path)
    assert isinstance(theirs, TensorFlow)
    ours = our_outputs(imported, images)
    found = theirs.detect(images)
    figures = compare(
        theirs.name,
        theirs.raw(images),
        ours,
        form.image_size,
        found,
        our_detections(imported, ours),
    )
    assert max(figures.class_logits, figures.box_offsets) < 1e-4
    assert (figures.lost, figures.gained) == (0, 0)
    assert figures.detections == 200
    assert figures.boxes is not None
    assert figures.boxes < 1e-3
