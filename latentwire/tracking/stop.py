"""SIGTERM as an exception, so that runs are ended in order when a scheduler stops the job."""

import signal
from types import FrameType


class Stopped(BaseException):
    """The process was asked to end; like KeyboardInterrupt, not an error to be handled."""


def raise_on_sigterm() -> None:
    """From now on the first SIGTERM raises Stopped in the main thread."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second would cut short how runs are ended
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
