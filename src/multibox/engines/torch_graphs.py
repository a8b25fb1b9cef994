"""CUDA graphs: a network's hundred kernels launched by one call."""

import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]
Function = Callable[[Tensor], Outputs]
T = TypeVar("T")

_WARM_UP = 3


class Capture(Protocol):
    """Makes a function of a tensor into one that does the same again with what it holds then."""

    def __call__(self, function: Function, here: Tensor) -> Callable[[], Outputs]:
        """Record ``function(here)``; every call of what is returned writes into the same tensors.

        Raises: RuntimeError where the function cannot be recorded.
        """

    def turn(self) -> AbstractContextManager[None]:
        """Around each use: the device begins it when it is done with those before."""


class Captured:
    """``function`` of a batch of uint8, recorded for a few batch sizes, then replayed.

    Batches are filled up to the next of these sizes (``filled_up``), so there is no end of
    recordings however batches vary; every row of the answer must depend on its own picture alone.
    The function must queue its work without reading a result. One that cannot be recorded is
    called as it is, with a warning. Weights may change in place, not be replaced.
    """

    def __init__(self, function: Function, device: torch.device, capture: Capture) -> None:
        self._function = function
        self._device = device
        self._capture = capture
        self._recorded: dict[int, tuple[Tensor, Callable[[], Outputs]]] = {}
        self._possible = True
        self._one_at_a_time = threading.Lock()

    def __call__(self, images: Tensor, use: Callable[[Outputs], T]) -> T:
        """``use`` of ``function(images)``, which the next call writes over: copy what is to stay.

        ``images`` may also be in pinned memory; they are copied once, without waiting. All calls
        have pictures of one size. Threads take turns.
        """
        number = len(images)
        size = filled_up(number)
        with self._one_at_a_time, self._capture.turn():
            if self._possible and size not in self._recorded:
                self._record(images.new_empty((size, *images.shape[1:]), device=self._device))
            if not self._possible:
                return use(self._function(images.to(self._device, non_blocking=True)))
            here, replay = self._recorded[size]
            here[:number].copy_(images, non_blocking=True)
            return use(tuple(each[:number] for each in replay()))

    def _record(self, here: Tensor) -> None:
        try:
            replay = self._capture(self._function, here.zero_())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._possible = False
            warnings.warn(
                f"runs without CUDA graphs, so somewhat slower: {str(error).splitlines()[0]}",
                stacklevel=4,
            )
        else:
            self._recorded[len(here)] = (here, replay)


def filled_up(number: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most half as much again."""
    power = 1 << (number - 1).bit_length()
    return power * 3 // 4 if power >= 4 and number <= power * 3 // 4 else power


class CudaCapture:
    """Records in CUDA; the graphs of one share their memory, as only one runs at a time."""

    _one_in_the_process = threading.Lock()

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def __call__(self, function: Function, here: Tensor) -> Callable[[], Outputs]:
        """Run a few times, which chooses kernels and allocates workspaces, then record."""
        graph = torch.cuda.CUDAGraph()
        before = torch.cuda.current_stream()
        # Another stream than the warm-up's, whose workspaces anybody may free.
        warming, recording = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with self._one_in_the_process, _search_for_kernels():
            warming.wait_stream(before)
            with torch.cuda.stream(warming):
                for _ in range(_WARM_UP):
                    function(here)
            before.wait_stream(warming)
            try:
                # Of what other threads do meanwhile (pinning memory) nothing is forbidden.
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=recording, capture_error_mode="thread_local"
                ):
                    outputs = function(here)
            finally:
                # A recording that fails would leave its own.
                torch.cuda.set_stream(before)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay

    @contextmanager
    def turn(self) -> Generator[None]:
        """On its device; threads may have streams of their own, which do not wait by themselves."""
        with torch.cuda.device(self._device):
            self._done.wait()
            try:
                yield
            finally:
                self._done.record()


@contextmanager
def _search_for_kernels() -> Iterator[None]:
    """The shapes recorded are run again and again: worth the search for the fastest convolutions.

    While recording too, or what the warm-up found is not looked up.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
