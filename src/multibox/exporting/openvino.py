"""OpenVINO's IR: an .xml with the graph, and a .bin with the weights beside it."""

from pathlib import Path

import onnx
import openvino

from multibox.card import CARD_KEY, ModelCard
from multibox.engines.openvino_core import openvino_core
from multibox.errors import MultiboxError


class IrFile:
    """A graph that has been written to ``file``; the card is added once it has been judged."""

    def __init__(self, graph: onnx.ModelProto, file: Path, *, any_batch: bool = True) -> None:
        """Convert ``graph``; without ``any_batch`` it takes one picture at a time.

        Raises: MultiboxError when OpenVINO cannot read it.
        """
        self._file = file
        source = file.with_suffix(".onnx")
        source.write_bytes(graph.SerializeToString())
        try:
            # Not convert_model, which does the same and reports it to OpenVINO's makers.
            self._model = openvino_core().read_model(source)
        except Exception as error:  # its own, and whatever its parts let through
            reason = str(error).strip().splitlines()[-1]
            raise MultiboxError(f"OpenVINO cannot convert this network: {reason}") from error
        if not any_batch:
            self._model.reshape([1, *list(self._model.input().partial_shape)[1:]])
        self._save()

    def add_card(self, card: ModelCard) -> None:
        """Put ``card`` into the .xml; the .bin is written again as it was."""
        self._model.set_rt_info(card.model_dump_json(), CARD_KEY)
        self._save()

    def _save(self) -> None:
        openvino.save_model(self._model, self._file, compress_to_fp16=False)
