"""CUDA graphs: a forward pass recorded once and launched again as a whole.

One decoding step is more than a thousand small kernels; launched one by one from Python, the GPU
waits for the host most of the time. A graph repeats the same kernels on the same memory.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class StepGraphs:
    """Recorded steps by a key that names their shapes. All share one pool of memory for what lies
    between a step's beginning and its result."""

    def __init__(self) -> None:
        self._recorded: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, key: Hashable, step: Callable[[], Tensor], out: Tensor) -> Tensor:
        """Put the result of `step` in `out`, recorded the first time and replayed from then on.

        `step` must read and write the same tensors each time, and `out` be the same one. Raises
        RuntimeError where something had to be set up while it was recorded.
        """
        if key not in self._recorded:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                out.copy_(step())
            self._recorded[key] = graph
        self._recorded[key].replay()  # recording computes nothing
        return out
