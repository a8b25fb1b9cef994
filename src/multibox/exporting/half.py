"""Weights in half precision: half the file, the same float32 arithmetic.

Each weight is stored as float16 behind a Cast, which every engine carries out once, when it loads
the file. A graph that computes in float16 would be for processors that can: onnxruntime has no
such layers for most CPUs and would convert to and fro around each of them.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Smaller arrays, biases for most, weigh next to nothing.
_WORTH_IT = 1024
_LARGEST = float(np.finfo(np.float16).max)


def store_half(model: onnx.ModelProto) -> None:
    """Round the weights of ``model`` to float16, in place.

    An array with values beyond float16's range (65,504) stays as it is.
    """
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < _WORTH_IT or np.abs(values).max() > _LARGEST:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(
            helper.make_node(
                "Cast", [weight.name], [name], name=f"{name}/cast", to=TensorProto.FLOAT
            )
        )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
