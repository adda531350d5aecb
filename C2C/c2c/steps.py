"""Work that is asked of a device step by step: something else can be done between two steps.

One text's next token is hundreds of small kernels that wait for each other and leave most of a GPU
idle. In a stream of their own, which goes first, they run beside kernels that wait for memory.
"""

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

import torch

from c2c.cuda_graphs import FIRST

_T = TypeVar("_T")
Steps = Generator[None, None, _T]


def finished(steps: Steps[_T], meanwhile: Callable[[], None] = lambda: None) -> _T:
    """What all steps give; `meanwhile` is called between them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: _T = end.value
            return found
        meanwhile()


class SideStream(Generic[_T]):
    """Takes `steps` one by one, on CUDA in a stream of its own, behind all that has been asked of
    the device before. What they use must not be freed before they are `joined`."""

    def __init__(self, steps: Steps[_T], device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._found: list[_T] = []
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority=FIRST)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def step(self) -> None:
        """The next step, if there is one."""
        if self._found:
            return
        with torch.cuda.stream(self._stream):
            try:
                next(self._steps)
            except StopIteration as end:
                self._found.append(end.value)

    def result(self) -> _T:
        """What all steps give."""
        while not self._found:
            self.step()
        return self._found[0]

    def joined(self) -> None:
        """What is asked of the device from here on comes after what was asked in these steps."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
