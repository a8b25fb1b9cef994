from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from multibox.errors import InputError
from multibox.importers.torchvision import read
from multibox.parity.torchvision import reference


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, 320, 320, 3), np.uint8)


def lite(*, whole_tail: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    if not whole_tail:
        return ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=3
        ).eval()
    with pytest.MonkeyPatch.context() as patch:
        state = mobilenet_v3_large(weights=None).state_dict()
        patch.setattr(MobileNet_V3_Large_Weights, "get_state_dict", lambda *_, **__: state)
        return ssdlite320_mobilenet_v3_large(
            weights=None,
            weights_backbone=MobileNet_V3_Large_Weights.IMAGENET1K_V1,
            num_classes=3,
        ).eval()


@pytest.mark.parametrize("whole_tail", [False, True])
def test_is_the_model_that_wrote_the_file(whole_tail: bool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = lite(whole_tail=whole_tail)
    with torch.no_grad():
        # Fresh weights give next to nothing: let the biases speak.
        for head in model.head.classification_head.module_list:
            head[-1].bias.normal_()
        for head in model.head.regression_head.module_list:
            head[-1].bias.normal_()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    images = picture()
    original = reference(tmp_path / "w.pth", read(tmp_path / "w.pth", None))
    assert original.name == f"torchvision {version('torchvision')}"

    floats = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images]
    with torch.inference_mode():
        maps = model.backbone(torch.stack([model.transform.normalize(x) for x in floats]))
        raw = model.head(list(maps.values()))
        expected = model(floats)
    logits, offsets = original.raw(images)
    assert logits.shape == (2, 3234, 3)
    np.testing.assert_allclose(logits, raw["cls_logits"], atol=1e-5)
    np.testing.assert_allclose(offsets, raw["bbox_regression"], atol=1e-5)

    for found, answer in zip(original.detect(images), expected, strict=True):
        np.testing.assert_allclose(found.boxes * 320, answer["boxes"], atol=1e-4)
        np.testing.assert_array_equal(found.scores, answer["scores"])
        np.testing.assert_array_equal(found.labels, answer["labels"] - 1)
        assert set(found.labels) == {0, 1}
        assert found.boxes.min() >= 0
        assert found.boxes.max() <= 1


def test_a_file_that_torchvision_does_not_take(tmp_path: Path) -> None:
    state = lite(whole_tail=False).state_dict()
    torch.save(state, tmp_path / "w.pth")
    imported = read(tmp_path / "w.pth", None)
    state["another"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"w\.pth: torchvision does not load it.*another"
    ) as caught:
        reference(tmp_path / "w.pth", imported)
    assert "\n" not in str(caught.value)
