"""The next batch, read while the gradients of this one are computed.

A GPU is quicker at a training step than a processor is at asking for it, kernel by kernel. While
torch computes gradients it holds no lock of Python, so that a second thread can ask for what both
frozen models have of the next batch: in a stream of its own, so that neither waits for the other.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, Self, TypeVar

import torch

T = TypeVar("T")


def is_worth_it(device: torch.device) -> bool:
    """Whether the device is waited for. On a CPU, both threads would want the same cores."""
    return device.type == "cuda"


def stream_beside(device: torch.device) -> torch.cuda.Stream | None:
    """A queue of work that is not the current one; None where a device has none."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


class ReadAhead(Generic[T]):
    """`items` in their order; once `start` has been called, a thread makes the next one.

    What making one raises is raised when it is asked for. No two are made at a time, and the
    thread rests between `finish` and `start`. Memory that came with an item is not to be used
    longer than until the next one is asked for.
    """

    def __init__(self, items: Iterator[T], device: torch.device) -> None:
        self._items, self._device = items, device
        self._thread = ThreadPoolExecutor(1) if is_worth_it(device) else None
        self._stream = stream_beside(device) if self._thread else None
        self._next: Future[T] | None = None
        # The stream's memory is its own to give away again as soon as nothing holds it, also where
        # other streams still have to read it: so it is held until their work has been asked for.
        self._held: T | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread:
            self._thread.shutdown()

    def get(self) -> T:
        """The next item."""
        begun, self._next = self._next, None
        if begun is None:
            return next(self._items)
        self._held = begun.result()
        if self._stream:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return self._held

    def start(self) -> None:
        """Begin with the next item, after the work that has been asked for so far."""
        if self._thread:
            if self._stream:
                self._stream.wait_stream(torch.cuda.current_stream(self._device))
            self._next = self._thread.submit(self._make)

    def finish(self) -> None:
        """Wait until the item that was begun, if any, is made."""
        if self._next:
            wait([self._next])

    def _make(self) -> T:
        with torch.cuda.stream(self._stream):
            return next(self._items)
