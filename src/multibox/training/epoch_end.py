"""What comes after the steps of an epoch: evaluation, the best weights, tables and pictures."""

from pathlib import Path
from typing import Any

from torch import nn

from multibox import checkpoints
from multibox.data.samples import DataSet
from multibox.detections import Detections
from multibox.detector import Detector
from multibox.engines.torch import TorchEngine
from multibox.errors import MultiboxError
from multibox.evaluation import Evaluation, evaluate_model, plot_precision_recall
from multibox.evaluation.shares import Share
from multibox.imaging import Image
from multibox.training.interruption import Interruption
from multibox.training.progress import RunProgress
from multibox.training.ranks import Ranks
from multibox.training.run import Run
from multibox.training.run_folder import Row, plot_curves, write_metrics
from multibox.training.sheets import draw_predictions
from multibox.training.state import RunState, check_finite


class EvaluationStopped(Exception):
    """A signal has come: the epoch is evaluated when the run goes on."""


def end_epoch(
    run: Run,
    network: nn.Module,
    state: RunState,
    row: dict[str, float | int | None],
    progress: RunProgress,
    interruption: Interruption,
    ranks: Ranks,
) -> None:
    """Evaluate when it is time, keep the best weights, and bring the run folder up to date.

    ``network`` is what is judged and saved; ``row`` holds the epoch's figures and gets its mAP.

    Raises: EvaluationStopped, with nothing changed, when a signal comes meanwhile.
    """
    epoch = int(row["epoch"] or 0)
    evaluates = run.evaluates_after(epoch)
    evaluation: Evaluation | None = None
    detections: list[Detections] = []
    best = evaluates
    if evaluates and run.validation is not None:
        ranks.share_statistics(network)
        evaluation, detections = _evaluate(
            run, network, run.validation, progress, interruption, ranks
        )
        row["map"] = evaluation.map
        best = state.best is None or (evaluation.map or 0.0) >= state.best
        state.best = (evaluation.map or 0.0) if best else state.best
    state.history.append(row)

    def write() -> None:
        if evaluation is not None and run.validation is not None:
            draw_predictions(run.folder / "validation_predictions.jpg", run.validation, detections)
            plot_precision_recall(evaluation, run.folder / "precision_recall.png")
        if best:
            validation = {} if evaluation is None else {"validation": evaluation.to_dict()}
            _save_weights(run, network, {"epoch": epoch} | validation)
        if evaluates:
            plot_curves(run.folder / "curves.png", state.history)
        write_metrics(run.folder / "metrics.csv", state.history)

    ranks.on_first(write)
    progress.say(_epoch_line(row, run.epochs, evaluation))


def _evaluate(
    run: Run,
    network: nn.Module,
    validation: DataSet,
    progress: RunProgress,
    interruption: Interruption,
    ranks: Ranks,
) -> tuple[Evaluation, list[Detections]]:
    """Judge ``network``; every rank detects in a share of the pictures and gets the whole."""
    detector = Detector(TorchEngine.from_module(network, run.card), run.card)

    def detect(images: list[Path | Image], /, *, score: float) -> list[Detections]:
        found, error = [], None
        try:
            found = detector(images, score=score)
        except MultiboxError as failure:
            error = failure
        if ranks.agree(interruption.signal_number, error) is not None:
            raise EvaluationStopped
        return found

    return evaluate_model(
        detect,
        validation,
        metric=run.recipe.metric,
        on_progress=progress.evaluating,
        share=Share(ranks.index, ranks.count, ranks.gather),
    )


def _save_weights(run: Run, network: nn.Module, metrics: dict[str, Any]) -> None:
    check_finite(network.state_dict(), "the weights are not saved")
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    card = run.card.model_copy(update={"metrics": metrics})
    checkpoints.save(run.folder / "best.safetensors", arrays, card)


def _epoch_line(row: Row, epochs: int, evaluation: Evaluation | None) -> str:
    line = f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}"
    if evaluation is None:
        return line
    value = "none" if evaluation.map is None else f"{evaluation.map:.3f}"
    classes = "  ".join(
        f"{name} {ap:.3f}" for name, ap in evaluation.per_class.items() if ap is not None
    )
    return f"{line}  {evaluation.metric} mAP {value}  {classes if len(classes) < 200 else ''}"
