"""Who computes what, where several processes share a store: each piece of work once.

A process writes the keys of the work it claims into tags of its own milestone run, then reads the
tags of all other milestone runs that are RUNNING. A key is its own if no other live process has it
there; else it takes its claim back. Of two that write at the same time, each reads after it wrote:
both may give way, but never both have it. So no more is asked of the store than that what is
written is then read by all. A key that ends in a span of examples (`...:00000-00200`) meets every
other key of its kind whose span overlaps: chunk sizes may differ. It may name conditions before
(`...#a0b1+c2d3:00000-00200`): then it meets those alone that name one of them, or none at all.

A process that has died must not hold its claims for ever. Where it is certain that it has ended, it
holds nothing. Else its heartbeat, a number in the first tag, stands still: a reader that has not
seen it change for LEASE_S, by the reader's own clock, no longer counts it. Who was only stopped for
so long finds out when it goes on (`Leases.keeps`).
"""

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self, TypeVar

from mlflow.entities import Run, RunTag

from latentwire.tracking.heartbeats import BEAT_S, LEASE_S, still_s
from latentwire.tracking.processes import is_gone
from latentwire.tracking.runs import CLAIMS, LEVEL, MOST_PARAMS, PROCESS, PROCESS_ID
from latentwire.tracking.store import Store

PAGE_CHARACTERS = 4000  # of a tag; MLflow cuts what is longer than 8,000, older servers than 5,000
POLL_S = 1.0  # between looks at what other processes are computing
_SHUTDOWN_TIMEOUT_S = 2.0
_SPAN = re.compile(r"(.*?)(?:#([0-9a-f+]+))?:(\d{1,9})-(\d{1,9})", re.DOTALL)

log = logging.getLogger("latentwire")

Item = TypeVar("Item")
Result = TypeVar("Result")
Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """What a key with a span claims: examples under some conditions (none named: under all)."""

    span: Span
    conditions: frozenset[str]

    def meets(self, other: "Piece") -> bool:
        """Whether both claim the same of an example."""
        (start, stop), (first, last) = self.span, other.span
        apart = self.conditions and other.conditions and not self.conditions & other.conditions
        return first < stop and start < last and not apart


@dataclass
class Held:
    """The keys that some processes hold; `in` also finds what overlaps with one of them."""

    everything: bool = False  # a live process holds keys that cannot be read
    keys: set[str] = field(default_factory=set)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)

    def add(self, keys: Iterable[str]) -> None:
        self.keys.update(keys)
        for key in keys:
            if found := _piece_of(key):
                self.pieces.setdefault(found[0], []).append(found[1])

    def __contains__(self, key: str) -> bool:
        return self.everything or key in self.keys or bool(self._met(key))

    def __bool__(self) -> bool:
        return self.everything or bool(self.keys)

    def cuts(self, key: str) -> bool:
        """Whether a span is held that overlaps with the key's and is not the same."""
        found = _piece_of(key)
        return found is not None and any(met.span != found[1].span for met in self._met(key))

    def _met(self, key: str) -> list[Piece]:
        found = _piece_of(key)
        if found is None:
            return []
        kind, piece = found
        return [other for other in self.pieces.get(kind, ()) if piece.meets(other)]


class Leases:
    """The claims of one milestone run, and its heartbeat for as long as the block lasts.

    What is held ends with `until_done`, or with the run. A key stays in the tag that it was first
    written to, so that a reader finds it whatever is being written to the others meanwhile.
    """

    def __init__(self, store: Store, run_id: str, lease_s: float = LEASE_S) -> None:
        self._store = store
        self._run_id = run_id
        self._lease_s = lease_s
        self._pages: list[set[str]] = [set()]
        self._changed: set[int] = set()  # pages that the store does not know yet
        self._kept: set[str] = set()  # held without a break since they were claimed
        self.seen = Held()  # what others held when they were last looked at
        self._beat = 0
        self._told = time.monotonic(), time.time()  # when the store was last written to
        self._late = False  # nobody has heard of this process for as long as a lease
        self._lock = threading.RLock()  # of what is known here; nobody asks the store within it
        self._writing = threading.RLock()  # of what the store is told, which can take minutes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_SHUTDOWN_TIMEOUT_S)  # it must not write when the run has ended

    @contextmanager
    def until_done(self) -> Iterator[Self]:
        """Claims that are made in the block end with it, or with the run if it is interrupted."""
        yield self
        self.release([key for page in self._pages for key in page])
        self._write()

    def take(self, key: str) -> bool:
        """Claim a key; False if a live process has it, or claims it at this moment."""
        with self._writing:
            self._add(key)
            self._write()
            taken = key in self.of_others()
            if taken:
                self.release([key])
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
            for key in keys:
                self._kept.discard(key)
                for number, page in enumerate(self._pages):
                    if key in page:
                        page.remove(key)
                        self._changed.add(number)

    def keeps(self, key: str) -> bool:
        """Whether a key has been held without a break since it was claimed. Else this process was
        stopped, or the store was away, for so long that others may have taken it for dead."""
        with self._lock:
            self._note_break()
            return key in self._kept

    def of_others(self) -> Held:
        """What other live processes hold."""
        held = Held()
        asked = time.monotonic()
        for run in self._store.search(
            f"attributes.status = 'RUNNING' and tags.`{LEVEL}` = 'milestone'"
            f" and tags.`{CLAIMS}` != ''"
        ):
            # Whatever version wrote claims, it had named its process before.
            if run.info.run_id == self._run_id or PROCESS not in run.data.tags:
                continue
            keys = read(run.data.tags)
            if keys != [] and self._is_live(run, asked):
                held.everything |= keys is None
                held.add(keys or [])
        self.seen = held
        return held

    def _is_live(self, run: Run, asked: float) -> bool:
        if is_gone(run.data.tags.get(PROCESS_ID, "")):
            return False
        return still_s(run.info.run_id, run.data.tags[CLAIMS], asked) < self._lease_s

    def _add(self, key: str) -> None:
        with self._lock:
            self._note_break()
            fitting = (n for n, page in enumerate(self._pages) if len(_text({*page, key})) < _MOST)
            number = next(fitting, len(self._pages))
            if number == len(self._pages):
                self._pages.append(set())
            self._pages[number].add(key)
            self._changed.add(number)
            self._kept.add(key)

    def _write(self) -> None:
        """Tell the store of all that changed; the first page carries the heartbeat."""
        with self._writing:
            pages = self._to_be_told()
            tags = [RunTag(name, text) for name, text in pages.values()]
            try:
                for start in range(0, len(tags), MOST_PARAMS):
                    batch = tags[start : start + MOST_PARAMS]
                    self._store.client.log_batch(self._run_id, tags=batch)
            except BaseException:
                with self._lock:
                    self._changed.update(pages)
                raise
            with self._lock:
                self._note_break()  # the store may have been away for long before it took this
                self._told = time.monotonic(), time.time()
            if self._late and not self._over.is_set():  # others may have marked the run KILLED
                self._store.client.update_run(self._run_id, status="RUNNING")
            self._late = False

    def _to_be_told(self) -> dict[int, tuple[str, str]]:
        """The pages that the store does not know yet, and the first: number -> tag and text."""
        with self._lock:
            self._note_break()
            self._beat += 1
            pages = sorted(self._changed | {0})
            self._changed.clear()
            told = {n: (f"{CLAIMS}.{n}", _text(self._pages[n])) for n in pages}
            return told | {0: (CLAIMS, _text(self._pages[0], self._beat))}

    def _note_break(self) -> None:
        """See whether nobody has heard of this process for as long as a lease. Of a machine that
        was halted as a whole, only the clock on the wall tells."""
        now = time.monotonic(), time.time()
        if max(now[0] - self._told[0], now[1] - self._told[1]) >= self._lease_s:
            self._told, self._late = now, True
            self._kept.clear()

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                with self._writing:
                    if not self._over.is_set():
                        self._write()
            except Exception as error:  # a store that is away; work goes on
                log.debug("no heartbeat: %s", error)


def run_exclusively(
    leases: Leases,
    items: Sequence[Item],
    key: Callable[[Item], str],
    find: Callable[[Item], Result | None],
    make: Callable[[Item], Result],
    to_the_runs_end: bool = False,
) -> Iterator[tuple[Item, Result]]:
    """Every item with its result, as they come: found in the store, or made here.

    An item is made under a claim called `key`. What another live process has claimed is waited for;
    what a dead one had claimed is made here. `find` looks into the store, and must see a result
    before the claim of the process that made it ends: after the item, or, with `to_the_runs_end`,
    with the run, for what is finished only when the run is.
    """
    left = list(items)
    told = False
    while left:
        item = leases.take_any(left, key)
        if item is None:
            if not told:
                log.info("other processes have the last %d pieces in hand", len(left))
                told = True
            # Two that both gave way must not meet again.
            time.sleep(POLL_S * random.uniform(0.5, 1))
            continue
        left.remove(item)
        result = find(item)
        if result is None:
            result = make(item)
        if not to_the_runs_end:
            leases.release([key(item)])
        yield item, result


_MOST = PAGE_CHARACTERS - 20  # room for the heartbeat's digits


def read(tags: Mapping[str, str]) -> list[str] | None:
    """The keys in a milestone run's tags; None where a tag was cut, and may have held any."""
    keys: list[str] = []
    for name, text in tags.items():
        if name == CLAIMS or name.startswith(f"{CLAIMS}."):
            try:
                content = json.loads(text)
                found = content.get("keys") if isinstance(content, dict) else None
                if isinstance(found, list):
                    keys += map(str, found)
                else:  # no version ever wrote that
                    log.debug("the tag %s holds no claims: %.80s", name, text)
            except (ValueError, RecursionError):
                return None
    return keys


def _text(keys: Iterable[str], beat: int = 0) -> str:
    return json.dumps({"beat": beat, "keys": sorted(keys)})


def _piece_of(key: str) -> tuple[str, Piece] | None:
    found = _SPAN.fullmatch(key)
    if found is None:
        return None
    conditions = frozenset(found[2].split("+")) if found[2] else frozenset[str]()
    return found[1], Piece((int(found[3]), int(found[4])), conditions)
