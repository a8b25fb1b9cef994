"""``multibox evaluate``: average precision on labelled pictures."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from multibox.data import problems_summary
from multibox.detector import load
from multibox.engines import EngineName, Goal, Precision
from multibox.evaluation import Metric, evaluate_model, per_class_table, write_json
from multibox.evaluation.evaluate import open_for_evaluation
from multibox.evaluation.mistakes import draw_mistakes


def evaluate(
    model: str,
    data: Path,
    /,
    *,
    split: str | None = None,
    metric: Metric = "voc07",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    mistakes: Path | None = None,
    engine: EngineName = "auto",
    goal: Goal = "latency",
    threads: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    precision: Precision = "fp32",
) -> None:
    """Measure a model's average precision on labelled pictures.

    Parameters
    ----------
    model
        A checkpoint (.safetensors), an exported file (.onnx, .xml), or published weights.
    data
        A folder or file of labelled pictures: VOC, COCO or YOLO.
    split
        What to measure on; "test" by default, or "val" where there is none.
    metric
        VOC2007's 11 points, VOC2010's area, or COCO's twelve figures.
    json
        Write the figures to this file.
    mistakes
        Draw the pictures with the worst mistakes on a sheet, this file: missed objects dashed,
        wrong detections drawn through, at a score of 0.5.
    engine
        What runs the network: torch runs checkpoints, the others what multibox export wrote.
    goal
        Whether all threads work on one picture (latency), or each on its own (throughput).
    threads
        How many; by default one for each processor.
    precision
        What float32 layers compute in; bf16 is faster on recent processors and GPUs, fp16 on GPUs.
    """
    dataset = open_for_evaluation(data, split)
    messages = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    for line in (*dataset.notes, *problems_summary(dataset)):
        messages.print(line)
    detector = load(
        model,
        engine=engine,
        goal=goal,
        threads=threads,
        precision=precision,
        pictures=len(dataset),
    )

    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as progress:
        task = progress.add_task("evaluating", total=len(dataset))
        evaluation, detections = evaluate_model(
            detector,
            dataset,
            metric=metric,
            on_progress=lambda done, _: progress.update(task, completed=done),
        )
    for note in evaluation.notes:
        messages.print(note)

    console = Console(markup=False, highlight=False)
    console.print(per_class_table(evaluation, dataset))
    for name, figure in (evaluation.coco or {}).items():
        console.print(f"{name:>6} {figure:.3f}")
    mean = "none" if evaluation.map is None else f"{evaluation.map:.4f}"
    console.print(
        f"mAP {mean} ({evaluation.metric}, IoU {evaluation.iou}) "
        f"on {evaluation.images} pictures of {data}, split {evaluation.split}",
        soft_wrap=True,
    )
    if json is not None:
        write_json(evaluation, json)
    if mistakes is not None:
        wrong = draw_mistakes(mistakes, dataset, detections)
        console.print(f"{wrong} of {evaluation.images} pictures have mistakes at a score of 0.5")
