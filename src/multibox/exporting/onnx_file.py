"""An ONNX file: who made it, what it says of itself, and the model card in its metadata."""

from importlib.metadata import version
from pathlib import Path

import onnx

from multibox.card import CARD_KEY, ModelCard


class OnnxFile:
    """A graph that has been written to ``file``; the card is added once it has been judged."""

    def __init__(self, graph: onnx.ModelProto, file: Path) -> None:
        self._file = file
        graph.producer_name, graph.producer_version = "multibox", version("multibox")
        onnx.checker.check_model(graph, full_check=True)
        file.write_bytes(graph.SerializeToString())

    def add_card(self, card: ModelCard) -> None:
        """Put ``card`` into the metadata; the graph on the disk stays as it is, byte for byte."""
        metadata = onnx.ModelProto()
        entry = metadata.metadata_props.add()
        entry.key, entry.value = CARD_KEY, card.model_dump_json()
        with self._file.open("ab") as file:
            # Messages of protobuf that stand behind each other are one message.
            file.write(metadata.SerializeToString())
