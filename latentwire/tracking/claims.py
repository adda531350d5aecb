"""Who computes what, where several processes share a store: each piece of work once.

A process writes the keys of the work it claims into a tag of its own milestone run, then reads the
tags of all other milestone runs that are RUNNING. A key is its own if no other live process has it
there; else it takes its claim back. Of two that write at the same time, each reads after it wrote:
both may give way, but never both have it. So no more is asked of the store than that what is
written is then read by all.

A process that has died must not hold its claims for ever. On its own host it is seen to be gone.
Elsewhere its heartbeat, a number in the tag, stands still: a reader that has not seen it change for
LEASE_S, by the reader's own clock, no longer counts it.
"""

import json
import logging
import platform
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from mlflow.entities import Run

from latentwire.tracking.runs import CLAIMS, HOST, LEVEL, PROCESS, is_alive
from latentwire.tracking.store import Store

BEAT_S = 15.0
LEASE_S = 120.0

log = logging.getLogger("latentwire")

Item = TypeVar("Item")


class Claims:
    """The claims of one milestone run.

    They end with the block, or, with `to_the_runs_end`, with the run: for a piece of work that is
    finished only when the run is.
    """

    def __init__(
        self, store: Store, run_id: str, lease_s: float = LEASE_S, to_the_runs_end: bool = False
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._lease_s = lease_s
        self._to_the_runs_end = to_the_runs_end
        self._held: set[str] = set()
        self._beat = 0
        self._seen: dict[str, tuple[int, float]] = {}  # run -> heartbeat, when it was first seen
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if kind is None and not self._to_the_runs_end:
            with self._lock:
                self._held.clear()
                self._write()

    def take(self, key: str) -> bool:
        """Claim a key; False if a live process has it, or claims it at this moment."""
        with self._lock:
            self._held.add(key)
            self._write()
            taken = key in self.of_others()
            if taken:
                self._held.discard(key)
                self._write()
            return not taken

    def take_any(self, items: Sequence[Item], key: Callable[[Item], str]) -> Item | None:
        """One of some pieces of work, claimed by its `key`; None while others have them all."""
        others = self.of_others()
        # In the same order, all would ask for the same piece at the same time.
        order = random.sample(items, len(items)) if others else items
        return next((i for i in order if key(i) not in others and self.take(key(i))), None)

    def release(self, keys: Iterable[str]) -> None:
        """Give up keys; the store is told with the next claim or heartbeat."""
        with self._lock:
            self._held.difference_update(keys)

    def of_others(self) -> set[str]:
        """The keys that other live processes hold."""
        return {key for _, keys in self._others() for key in keys}

    def _others(self) -> Iterator[tuple[str, list[str]]]:
        for run in self._store.search(
            f"attributes.status = 'RUNNING' and tags.`{LEVEL}` = 'milestone'"
            f" and tags.`{CLAIMS}` != ''"
        ):
            content = read(run.data.tags)
            if run.info.run_id == self._run_id or content is None:
                continue
            beat, keys = content
            if keys and self._is_live(run, beat):
                yield run.info.run_id, keys

    def _is_live(self, run: Run, beat: int) -> bool:
        if run.data.tags.get(HOST) == platform.node():
            return is_alive(run.data.tags.get(PROCESS, ""))
        now = time.monotonic()
        known = self._seen.get(run.info.run_id)
        if known is None or known[0] != beat:
            self._seen[run.info.run_id] = (beat, now)
            return True
        return now - known[1] < self._lease_s

    def _write(self) -> None:
        self._beat += 1
        text = json.dumps({"beat": self._beat, "keys": sorted(self._held)})
        self._store.client.set_tag(self._run_id, CLAIMS, text)

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                with self._lock:
                    if not self._over.is_set():
                        self._write()
            except Exception as error:  # a store that is away; work goes on
                log.debug("no heartbeat: %s", error)


def read(tags: Mapping[str, str]) -> tuple[int, list[str]] | None:
    """Heartbeat and keys of a milestone run's tags; None where there are none that can be read."""
    try:
        content = json.loads(tags.get(CLAIMS, ""))
        return int(content["beat"]), [str(key) for key in content["keys"]]
    except (ValueError, TypeError, KeyError):
        return None
