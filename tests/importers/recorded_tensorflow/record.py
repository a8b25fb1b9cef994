"""Writes the files beside it: TensorFlow's answers for the graphs of tensorflow_graphs.RECORDED.

Run with TensorFlow installed: ``python tests/importers/recorded_tensorflow/record.py``.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tensorflow_graphs import RECORDED, frozen_graph, pictures  # noqa: E402

OUTPUTS = {"class_logits": "concat_1", "box_encodings": "concat"}
DETECTIONS = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")


def main() -> None:
    import tensorflow as tf

    for name, form in RECORDED.items():
        definition = tf.compat.v1.GraphDef.FromString(frozen_graph(form).SerializeToString())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
        session = tf.compat.v1.Session(graph=graph)
        wanted = {key: f"{key}:0" for key in DETECTIONS}
        wanted |= {key: f"{tensor}:0" for key, tensor in OUTPUTS.items()}
        values = session.run(wanted, {"image_tensor:0": pictures(form)})
        rng = np.random.default_rng(0)
        answers: dict[str, object] = {"tensorflow": tf.__version__}
        for key in OUTPUTS:
            flat = values[key].reshape(-1)
            places = np.sort(rng.choice(flat.size, 60, replace=False))
            answers[key] = {
                "shape": list(values[key].shape),
                "places": places.tolist(),
                "values": [round(float(v), 6) for v in flat[places]],
            }
        answers["detections"] = {
            key: np.round(values[key][:, :8].astype(float), 6).tolist() for key in DETECTIONS[1:]
        }
        answers["detections"]["num_detections"] = values["num_detections"].tolist()
        (HERE / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
