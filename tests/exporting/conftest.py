from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from spread_detectors import save, spread_engine, tiny_registered

from multibox.exporting import network
from multibox.ssd.model import SSD


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of a tiny detector, in BGR as Caffe's are; its backbone is registered."""
    torch.set_num_threads(1)
    with tiny_registered() as card:
        bgr = card.preprocessing.model_copy(
            update={"channel_order": "bgr", "mean": (104, 117, 123)}
        )
        card = card.model_copy(update={"preprocessing": bgr})
        path = save(spread_engine(card), tmp_path_factory.mktemp("tiny") / "tiny.safetensors")
        export = network.network_graph
        made: list[onnx.ModelProto] = []

        def once(model: SSD) -> onnx.ModelProto:
            if model.card != card:
                return export(model)
            if not made:
                made.append(export(model))
            graph = onnx.ModelProto()
            graph.CopyFrom(made[0])
            return graph

        with pytest.MonkeyPatch.context() as patch:
            # PyTorch's exporter takes seconds each time, for what is always the same network.
            patch.setattr(network, "network_graph", once)
            yield path
