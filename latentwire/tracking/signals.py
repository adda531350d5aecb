"""SIGTERM as an exception, so that runs are ended in order when a scheduler stops the job."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

AGAIN_S = 0.05


class Terminated(BaseException):
    """The process was asked to end; like KeyboardInterrupt, not an error to be handled."""


def raise_on_sigterm(reason: Callable[[], BaseException] = Terminated) -> None:
    """From now on the first SIGTERM raises Terminated, or what `reason` gives, in the main
    thread."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second would cut short how runs are ended
        raise reason()

    signal.signal(signal.SIGTERM, stop)


def reraise_swallowed_signals() -> None:
    """From now on, Terminated and KeyboardInterrupt that Python loses are raised a moment later.

    It runs signal handlers between any two instructions, also of a finalizer or of a weak
    reference's callback, which pass no exception on. SQLAlchemy has many of them.
    """
    usual = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, (KeyboardInterrupt, Terminated)):
            usual(lost)
            return
        kind = lost.exc_type

        def again(_number: int, _frame: FrameType | None) -> None:
            raise kind

        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)

    sys.unraisablehook = hook
