"""CUDA graphs: a network's hundred kernels launched by one call."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]
Function = Callable[[Tensor], Outputs]
Capture = Callable[[Function, Tensor], Callable[[], Outputs]]

SHAPES = 16
"""How many input shapes are kept: each has its own graph."""
_WARM_UP = 3


class Captured:
    """``function`` of a uint8 tensor, recorded for each shape it is called with, then replayed.

    The function must queue its work without reading a result. One that cannot be recorded is
    called as it is, with a warning. Weights may change in place, not be replaced.
    """

    def __init__(self, function: Function, device: torch.device, capture: Capture) -> None:
        self._function = function
        self._device = device
        self._capture = capture
        self._recorded: dict[tuple[int, ...], tuple[Tensor, Callable[[], Outputs]]] = {}
        self._possible = True

    def __call__(self, images: Tensor) -> Outputs:
        """``function(images)``: tensors that are valid until the next call.

        ``images`` may also be in pinned memory; it is copied once, without waiting.
        """
        shape = tuple(images.shape)
        if self._possible and shape not in self._recorded:
            self._record(images, shape)
        if not self._possible:
            return self._function(images.to(self._device, non_blocking=True))
        here, replay = self._recorded[shape]
        here.copy_(images, non_blocking=True)
        return replay()

    def _record(self, images: Tensor, shape: tuple[int, ...]) -> None:
        here = images.to(self._device, copy=True)
        try:
            replay = self._capture(self._function, here)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._possible = False
            warnings.warn(
                f"runs without CUDA graphs, so somewhat slower: {str(error).splitlines()[0]}",
                stacklevel=4,
            )
            return
        while len(self._recorded) >= SHAPES:
            del self._recorded[next(iter(self._recorded))]
        self._recorded[shape] = (here, replay)


class CudaCapture:
    """Records in CUDA; the graphs of one share their memory, as only one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Function, here: Tensor) -> Callable[[], Outputs]:
        """Run a few times, which chooses kernels and allocates workspaces, then record."""
        with torch.cuda.device(here.device), _search_for_kernels():
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    function(here)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Of what other threads do meanwhile (pinning memory) nothing is forbidden.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                outputs = function(here)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


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
