"""Work for two processes: a part of it is done by a copy of this one, on another core."""

import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 120.0  # behind the block; pictures take a fraction of a second each


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Have `work`, which writes files and nothing else, done while the block goes on; behind the
    block it is done. What the other process cannot do is done here, which raises what is amiss;
    all of it where no process can be copied, or there is one core."""
    if not _can_copy():
        yield
        work()
        return
    alive, held = os.pipe()  # its end tells the copy that this process is gone
    with warnings.catch_warnings():
        # Python warns of locks that other threads may hold: drawing shares none with them.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = os.fork()
    if not copy:
        os.close(held)
        _work_as_copy(work, alive)
    os.close(alive)
    try:
        yield
        if not _ends(copy):
            os.kill(copy, signal.SIGKILL)
        _, status = os.waitpid(copy, 0)
    except BaseException:
        os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)
        raise
    finally:
        os.close(held)
    if status:
        work()


def _ends(copy: int) -> bool:
    """Whether it does within PATIENCE_S: threads of this process may have held what it waits for
    when it was copied."""
    there = os.pidfd_open(copy)
    try:
        return bool(select.select([there], [], [], PATIENCE_S)[0])
    finally:
        os.close(there)


def _can_copy() -> bool:
    """On other systems than Linux, what draws may use threads that a copy has not."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def _work_as_copy(work: Callable[[], object], alive: int) -> None:
    """A copy's life: it says nothing, and does not outlive the process that it is a copy of."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process hears it too, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=lambda: (os.read(alive, 1), os._exit(1)), daemon=True).start()
        work()
        status = 0
    finally:
        os._exit(status)
