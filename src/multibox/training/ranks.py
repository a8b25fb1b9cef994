"""The processes of one run, and what they tell each other beside the training step.

All of it goes over sockets between the CPUs, so that no accelerator waits for it, and a process
that has died is noticed at once: its sockets are closed.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from multibox.errors import EndedElsewhere, MultiboxError

Answer = TypeVar("Answer")

# Above every signal's number; an error's exit code is added to it.
_FAILED = 1000


class Ranks:
    """This process, ``index`` of ``count``, among those that train together.

    Every rank calls each method at the same point of its work.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.index: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        self._group: Any = None
        if self.count > 1:
            self._group = dist.new_group(backend="gloo")
            # Meeting needs the first rank's store: whoever ends from here on disturbs nobody's.
            dist.barrier(self._group)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that speaks and writes for all."""
        return self.index == 0

    def on_first(self, work: Callable[[], Answer]) -> Answer:
        """What ``work`` returns on the first rank, which alone does it.

        Raises: what ``work`` raises there; EndedElsewhere with its exit code on the others.
        """
        if self.count == 1:
            return work()
        answer: list[Any] = [None, None]
        failure: MultiboxError | OSError | None = None
        if self.is_first:
            try:
                answer[0] = work()
            except (MultiboxError, OSError) as error:
                failure = error
                answer[1] = (str(error), getattr(error, "exit_code", MultiboxError.exit_code))
        dist.broadcast_object_list(answer, src=0, group=self._group)
        if failure is not None:
            raise failure
        if answer[1] is not None:
            raise EndedElsewhere(*answer[1])
        result: Answer = answer[0]
        return result

    def agree(self, signal_number: int | None, error: MultiboxError | None = None) -> int | None:
        """The signal that any rank has received, if any; also lets no rank run ahead.

        Raises: this rank's ``error``; EndedElsewhere with its exit code where another has one.
        """
        said = signal_number or 0
        if error is not None:
            said = _FAILED + error.exit_code
        if self.count > 1:
            heard = torch.tensor(said)
            dist.all_reduce(heard, dist.ReduceOp.MAX, group=self._group)
            said = int(heard)
        if error is not None:
            raise error
        if said > _FAILED:
            raise EndedElsewhere("another process of this run has failed", said - _FAILED)
        return said or None

    def gather(self, part: Answer) -> list[Answer]:
        """The ``part`` of every rank, on every rank, in the order of the ranks."""
        if self.count == 1:
            return [part]
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, part, group=self._group)
        return parts

    def share_statistics(self, network: nn.Module) -> None:
        """Give every rank the buffers of the first one's ``network``: BatchNorm's running figures.

        The weights are the same everywhere; each rank's figures come from its own pictures.
        """
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)


@contextlib.contextmanager
def lost_ranks_explained() -> Generator[None]:
    """Turn a failure to reach another process of the run into one clear line.

    Raises: MultiboxError in its place.
    """
    try:
        yield
    except RuntimeError as error:
        # Gloo has no exception of its own; its messages begin with its source file.
        if not (isinstance(error, dist.DistError) or "/gloo/" in str(error)):
            raise
        raise MultiboxError(
            "another process of this run has died or cannot be reached; what was saved stays: "
            "start all of them again with --resume and the same --out"
        ) from error
