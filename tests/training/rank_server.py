"""Trains in several processes that talk to each other: all is imported once, each rank is a fork.

Lines of JSON on stdin and stdout. A request is {"ranks": n, "arguments": of the command line,
"fault": {"rank", "kind", "at"} or null, "notes": folder or null}; the answer a list with
{"code": exit status, negative for a signal, "seconds": after the fault, "said": stderr} a rank.

A fault strikes one rank at its ``at``-th step, picture or evaluation, counted from 1; see FAULTS.
Into the folder of notes each rank writes, as RANK.json, the pictures and the numbers of boxes that
its steps were made of, and the rows of the run; and its weights as RANK.safetensors.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_detectors
import torch
import torch.utils.tensorboard  # here, and the verb, so that no fork has to import them
from safetensors.torch import save_file

from multibox import cli
from multibox.data.batches import TrainingPictures
from multibox.detector import Detector
from multibox.errors import ImageError
from multibox.training import epoch_end, loop
from multibox.training import train as training


def main() -> None:
    torch.set_num_threads(1)
    with tiny_detectors.registered():
        epoch_end.plot_curves = epoch_end.plot_precision_recall = lambda *_: None
        loop._SECONDS_BETWEEN_SAVES = -1.0
        for line in sys.stdin:
            print(json.dumps(handle(json.loads(line))), flush=True)


def handle(request: dict[str, Any]) -> list[dict[str, Any]]:
    ranks = request["ranks"]
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        files = [Path(folder, str(rank)) for rank in range(ranks)]
        struck = Path(folder, "struck")
        children = {}
        for rank in range(ranks):
            if (child := os.fork()) == 0:
                os.environ |= environment(rank, ranks, port)
                os.dup2(os.open(files[rank], os.O_CREAT | os.O_WRONLY), 2)
                os.dup2(2, 1)
                os._exit(run(request, rank, struck))
            children[child] = rank
        answers: list[dict[str, Any]] = [{} for _ in range(ranks)]
        while children:
            child, status = os.wait()
            rank = children.pop(child)
            began = struck.stat().st_mtime if struck.exists() else time.time()
            answers[rank] = {
                "code": os.waitstatus_to_exitcode(status),
                "seconds": time.time() - began,
                "said": files[rank].read_text(),
            }
        return answers


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun sets; for a single process it is left out."""
    if ranks == 1:
        return {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def run(request: dict[str, Any], rank: int, struck: Path) -> int:
    fault = request.get("fault")
    if fault is not None and fault["rank"] == rank:
        name, strike = FAULTS[fault["kind"]]
        owner = {"prepared": TrainingPictures, "__call__": loop.Step}.get(name, Detector)
        count = 0
        real = getattr(owner, name)

        def struck_once(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == fault["at"]:
                struck.touch()
                strike()
            return real(*arguments, **keywords)

        setattr(owner, name, struck_once)
    if request.get("hide_from_others") and rank > 0:
        hidden = next(a.partition("=")[2] for a in request["arguments"] if a.startswith("--out="))
        request["arguments"] = [a.replace(hidden, "/dev/null/run") for a in request["arguments"]]
    if request.get("notes"):
        take_notes(Path(request["notes"]), rank)
    try:
        return cli.main(request["arguments"])
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def damaged_picture() -> None:
    raise ImageError("damaged.jpg: cannot be decoded")


def bug() -> None:
    raise ZeroDivisionError


FAULTS: dict[str, tuple[str, Callable[[], None]]] = {
    "killed": ("__call__", send(signal.SIGKILL)),
    "bug": ("__call__", bug),
    "terminated": ("__call__", send(signal.SIGTERM)),
    "interrupted": ("__call__", send(signal.SIGINT)),
    "damaged picture": ("prepared", damaged_picture),
    "damaged validation picture": ("_resized", damaged_picture),
    "killed while evaluating": ("_detect", send(signal.SIGKILL)),
    "terminated while evaluating": ("_detect", send(signal.SIGTERM)),
}


def take_notes(folder: Path, rank: int) -> None:
    notes: dict[str, Any] = {"pictures": [], "boxes": []}
    step, fit, picture = loop.Step.__call__, training.fit, TrainingPictures.write

    def noted_step(self: loop.Step, batch: Any) -> Any:
        notes["boxes"].append(sum(len(boxes) for boxes in batch.boxes))
        return step(self, batch)

    def noted_picture(self: TrainingPictures, key: Any, out: Any) -> Any:
        notes["pictures"].append(list(key))
        return picture(self, key, out)

    def noted_fit(run: Any, *arguments: Any, **keywords: Any) -> Any:
        state = fit(run, *arguments, **keywords)
        notes["rows"] = state.history
        notes["best"] = state.best
        weights = {name: value.contiguous() for name, value in run.model.state_dict().items()}
        save_file(weights, folder / f"{rank}.safetensors")
        (folder / f"{rank}.json").write_text(json.dumps(notes))
        return state

    loop.Step.__call__ = noted_step  # type: ignore[method-assign]
    TrainingPictures.write = noted_picture  # type: ignore[method-assign]
    training.fit = noted_fit


if __name__ == "__main__":
    main()
