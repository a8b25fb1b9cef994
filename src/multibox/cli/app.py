"""The application: its verbs, each imported only when it is called.

The help texts stand here, so that ``multibox --help`` imports none of the verbs.
"""

from cyclopts import App

import multibox

app = App(
    name="multibox",
    help="SSD, the Single Shot MultiBox Detector: train it, measure it, run it anywhere.",
    help_format="plaintext",
    version=lambda: multibox.__version__,
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)

app.command(
    "multibox.cli.train:train",
    name="train",
    help="Train a detector on labelled pictures.",
)
app.command(
    "multibox.cli.detect:detect",
    name="detect",
    help="Find objects in pictures; write annotated pictures or JSON lines.",
)
app.command(
    "multibox.cli.evaluate:evaluate",
    name="evaluate",
    help="Measure a model's average precision on labelled pictures.",
)
app.command(
    "multibox.cli.bench:bench",
    name="bench",
    help="Measure how fast a model is, stage by stage, and how much of the processor it reaches.",
)
app.command(
    "multibox.cli.export:export",
    name="export",
    help="Write a detector as an ONNX or OpenVINO file, and compare that with PyTorch.",
)
app.command(
    "multibox.cli.doctor:doctor",
    name="doctor",
    help="Find what is wrong with labelled pictures before training on them.",
)
app.command(
    "multibox.cli.import_:import_",
    name="import",
    help="Turn another project's weights into a checkpoint, and compare the two networks.",
)
app.command(
    "multibox.cli.models:models",
    name="models",
    help="List the detectors that can be trained, or show one of them in full.",
)
