"""Signals that fall where Python passes no exception on."""

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from latentwire.tracking.signals import Terminated, reraise_swallowed_signals


class Dying:
    """Raises while it is being freed, as often as its list says."""

    def __init__(self, errors: list[type[BaseException]]) -> None:
        self.errors = errors

    def __del__(self) -> None:
        raise self.errors.pop()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type[BaseException] | None]]:
    """What the hook that was there before gets to know."""
    told: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    before = signal.getsignal(signal.SIGALRM)
    reraise_swallowed_signals()
    yield told
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_what_is_lost_is_raised_again(
    said: list[type[BaseException] | None], kind: type[BaseException]
) -> None:
    began = time.monotonic()
    with pytest.raises(kind):
        Dying([kind])
        time.sleep(5)
    assert time.monotonic() - began < 2 and said == []
    time.sleep(0.2)  # once


def test_other_errors_are_as_before(said: list[type[BaseException] | None]) -> None:
    Dying([ValueError])
    time.sleep(0.2)
    assert said == [ValueError]
