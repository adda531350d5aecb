"""CUDA graphs: a forward pass recorded once and launched again as a whole.

One decoding step is more than a thousand small kernels; launched one by one from Python, the GPU
waits for the host most of the time. A graph repeats the same kernels on the same memory.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

FIRST = -1  # a stream's priority: what waits there goes before what waits elsewhere


class StepGraphs:
    """Recorded steps of one device by a key that names their shapes. All share one pool of memory
    for what lies between a step's beginning and its result; `first` ones go before others."""

    def __init__(self, device: torch.device, first: bool = False) -> None:
        self._recorded: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        # What is recorded in a stream keeps its priority, wherever it is launched.
        self._stream = torch.cuda.Stream(device, priority=FIRST if first else 0)

    def run(self, key: Hashable, step: Callable[[], Tensor], out: Tensor) -> Tensor:
        """Put the result of `step` in `out`, recorded the first time and replayed from then on.

        `step` must read and write the same tensors each time, and `out` be the same one. Raises
        RuntimeError where something had to be set up while it was recorded.
        """
        with torch.cuda.device(out.device):  # a graph is the current device's
            if key not in self._recorded:
                self._recorded[key] = self._record(step, out)
            self._recorded[key].replay()  # recording computes nothing
        return out

    def _record(self, step: Callable[[], Tensor], out: Tensor) -> torch.cuda.CUDAGraph:
        """Like `torch.cuda.graph`, which gives all cached memory back first (the batch at hand
        would have to ask for it anew), and whose own stream is one for all devices."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool)
            try:
                out.copy_(step())
            finally:
                graph.capture_end()
        return graph
