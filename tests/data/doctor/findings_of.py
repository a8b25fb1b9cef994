"""What the doctor says of a ``CleanSet``, and its COCO files changed."""

import json

from multibox import zoo
from multibox.data.doctor import examine

SPEC = zoo.new_card("ssd300_mobilenet_v1", ["object"]).default_boxes


def report(data):
    return examine(data.root, SPEC, workers=0)


def only(data):
    (found,) = report(data).findings
    return found


def edit(data, change, name="a"):
    """Change the JSON that labels the picture ``name``."""
    content = json.loads(data.label(name).read_text())
    change(content)
    data.label(name).write_text(json.dumps(content))
