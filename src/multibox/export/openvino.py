"""ONNX to OpenVINO's IR: an .xml with the graph and a .bin with the weights."""

from pathlib import Path

import openvino

from multibox.card import CARD_KEY
from multibox.errors import MultiboxError


class Ir:
    """A network on its way to an IR."""

    def __init__(self, graph: Path) -> None:
        """Convert the ONNX file ``graph``; MultiboxError when OpenVINO cannot."""
        try:
            # Not convert_model: that one also reports to OpenVINO's makers.
            self._model = openvino.Core().read_model(graph)
        except Exception as error:  # RuntimeError, and whatever its parts let through
            reason = str(error).strip().splitlines()[-1]
            raise MultiboxError(f"OpenVINO cannot convert this network: {reason}") from error

    def save(self, xml: Path, *, half: bool, card: str | None = None) -> None:
        """Write ``xml`` and the .bin beside it, with the card's JSON where there is one.

        ``half`` stores weights in float16; what they are computed in is chosen by who loads it.
        """
        if card is not None:
            self._model.set_rt_info(card, CARD_KEY)
        openvino.save_model(self._model, xml, compress_to_fp16=half)
