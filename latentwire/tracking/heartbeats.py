"""How long the heartbeat of another process has stood still, by this process's own clock.

No clock of the other is asked: a heartbeat is a text that changes, and a reader measures how long
it has seen the same one. What is known is kept for the life of this process, whoever asks.
"""

import time

BEAT_S = 15.0
LEASE_S = 120.0  # a heartbeat that stands still for so long is that of a process that is gone

_seen: dict[str, tuple[str, float]] = {}  # run -> its heartbeat, and when that was first seen


def still_s(run_id: str, heartbeat: str, asked: float) -> float:
    """Seconds that a run's heartbeat has been seen unchanged, 0 at first sight.

    `asked` is `time.monotonic()` before the store was asked: a reader that was stopped between the
    answer and now must not take its own absence for the other's.
    """
    known = _seen.get(run_id)
    if known is None or known[0] != heartbeat:
        _seen[run_id] = heartbeat, time.monotonic()
        return 0.0
    return max(0.0, asked - known[1])
