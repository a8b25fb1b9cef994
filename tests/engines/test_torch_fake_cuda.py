"""That what the torch engine queues on a GPU waits for nothing, and so can be recorded.

The GPU is a pretence: tensors with a device and a shape, but without values. Reading a value, or a
shape that depends on one, is an error there.
"""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from multibox import zoo
from multibox.engines.torch import TorchEngine
from multibox.engines.torch_fast import to_half
from multibox.ssd.model import SSD, build_ssd

CUDA = torch.device("cuda:0")


def on_the_gpu(network: SSD) -> SSD:
    """``network`` with parameters and buffers of the same layout there, in place."""

    def there(value: Tensor) -> Tensor:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=CUDA)

    for part in network.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(there(parameter))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = there(buffer)
    return network


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("ssd300_vgg16", torch.bfloat16),
        ("ssdlite320_mobilenet_v3_large", torch.float16),
        ("ssdlite320_mobilenet_v3_large", None),
    ],
)
def test_a_batch_is_queued_without_waiting(model: str, dtype: torch.dtype | None) -> None:
    card = zoo.new_card(model, [f"class {i}" for i in range(90)])
    network = build_ssd(card).eval()
    if dtype is not None:
        to_half(network, dtype)
    height, width = card.preprocessing.image_size
    with FakeTensorMode(), torch.inference_mode():
        engine = TorchEngine(on_the_gpu(network), card)
        pictures = torch.empty(128, height, width, 3, dtype=torch.uint8, device=CUDA)
        logits, offsets, packed = engine._queued(pictures)
        found, exact = engine.detect_on_device(pictures)
    n, keep = len(network.default_boxes), card.postprocessing.keep
    assert logits.shape == (128, n, 91)
    assert offsets.shape == (128, n, 4)
    assert logits.dtype == (dtype or torch.float32)
    assert packed.shape == (128, 2 + 6 * keep)
    assert found.boxes.shape == (128, keep, 4)
    assert all(each.device == CUDA for each in (logits, packed, *found, exact))


def test_who_waits_is_noticed() -> None:
    with FakeTensorMode():
        x = torch.empty(3, device=CUDA)
        with pytest.raises(DataDependentOutputException):
            bool((x > 0).all())
        with pytest.raises(DynamicOutputShapeException):
            x[x > 0]
