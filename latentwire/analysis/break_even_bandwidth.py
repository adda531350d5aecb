"""Which of cache, text and recomputation answers first over a link of some bandwidth.

The clock runs until the receiver stands behind its prompt, with what the sharer had to say: what
follows, decoding the answer, is the same for all. Both ends have a device of the kind that was
measured, know the question, and work at batch 1. With bandwidth B in bit/s:

    T(B) = max(meanwhile, before + 8 bytes / B) + after

    cache          meanwhile: the receiver reads its prompt; before: the sharer reads it, encode,
                   decode; after: fuse
    text           before: the sharer reads the message's prompt and writes; after: the receiver
                   reads the message and its prompt
    recomputation  nothing is sent: the receiver's end has the sharer too, reads the prompt with
                   both, and fuses

Where the sharer alone has the evidence, recomputation sends all of it as text, and the receiver
reads it and its prompt; and a cache stands before the receiver's prompt, which is read after it has
come, not meanwhile.

Two starts are told apart: `question`, when nobody has read anything, and `cache`, when the sharer
has read the prompt before. Of latency and of several questions at once nothing is said.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import pandas as pd

from latentwire.analysis import csv_files
from latentwire.analysis.formatting import human_bits_per_s, percent
from latentwire.analysis.frames import records
from latentwire.errors import LatentWireError
from latentwire.evaluation.latency_names import (
    BUDGETS,
    EVIDENCE_BYTES,
    EVIDENCE_READ,
    FUSE,
    RECEIVER_PREFILL,
    SHARER_PREFILL,
    text_names,
)

LINKS_FILE = "links.csv"
START_TITLES = {"question": "nobody has read the question", "cache": "the sharer's cache stands"}
STARTS = tuple(START_TITLES)
TIMES = ("bytes", "meanwhile_ms", "before_ms", "after_ms")
ROUTES = ("recomputation", "text", "cache")
COLUMNS = (
    *("pair", "dataset", "device", "start", "way", "codec", "message_tokens", "accuracy"),
    *TIMES,
    *("beats_recomputation_bit_per_s", "first_at"),
    "passed_over",
)
_TEXTS = (
    *("pair", "dataset", "device", "start", "way", "codec", "message_tokens", "first_at"),
    "passed_over",
)
# Why a way is never called first.
NOT_EVALUATED, NO_BETTER = "not evaluated", "no better than the receiver alone"
_LIMITS = {
    **dict.fromkeys(TIMES, (0, 1e18)),
    "accuracy": (0, 1),
    "beats_recomputation_bit_per_s": (0, math.inf),
}


@dataclass(frozen=True)
class Route:
    """A way from question to receiver; times in ms, bytes of a question (mean)."""

    name: str  # cache, text or recomputation
    label: str
    meanwhile_ms: float
    before_ms: float
    after_ms: float
    bytes: float

    def time_ms(self, bit_per_s: float) -> float:
        """T(B)."""
        sending_ms = 8000 * self.bytes / bit_per_s
        return max(self.meanwhile_ms, self.before_ms + sending_ms) + self.after_ms


def routes(
    codecs: Mapping[str, Mapping[str, float]], times: Mapping[str, float], start: str
) -> list[Route]:
    """All ways, from M1's metrics by codec and from those of `evaluation.latency.measure`."""
    assert start in STARTS
    sharer_ms, meanwhile_ms, after_ms = times[SHARER_PREFILL], times[RECEIVER_PREFILL], times[FUSE]
    read_ms = sharer_ms if start == "question" else 0.0
    again = 0.0, sharer_ms + meanwhile_ms, after_ms, 0.0
    if not math.isnan(times.get(EVIDENCE_BYTES, math.nan)):  # the sharer's alone
        again = 0.0, 0.0, times[EVIDENCE_READ], times[EVIDENCE_BYTES]
        meanwhile_ms, after_ms = 0.0, meanwhile_ms + after_ms
    found = [Route("recomputation", "recomputation", *again)]
    for tokens in BUDGETS:
        write, reading, size = (times[name] for name in text_names(tokens))
        found.append(Route("text", f"text {tokens} tokens", 0.0, write, reading, size))
    for codec, measured in codecs.items():
        coding_ms = measured["encode_ms_mean"] + measured["decode_ms_mean"]
        sent = measured["wire_bytes_mean"]
        found.append(Route("cache", codec, meanwhile_ms, read_ms + coding_ms, after_ms, sent))
    return found


def break_even(way: Route, other: Route) -> float:
    """The bandwidth in bit/s above which `way` is sooner than `other`, which has nothing to do
    meanwhile; infinite where on the fastest link it is not, 0 where it always is."""
    assert not other.meanwhile_ms
    left_ms = other.time_ms(math.inf) - way.after_ms
    if left_ms <= max(way.meanwhile_ms, way.before_ms):
        return math.inf
    return 8000 * max(0.0, way.bytes - other.bytes) / (left_ms - way.before_ms)


def fastest(found: Sequence[Route]) -> list[tuple[float, float, Route]]:
    """Who answers first: (from bit/s, to bit/s, way), from 0 to infinity without a gap; nothing of
    no way.

    In x = 1/B each T is the larger of two lines, so who is first changes at most where two of all
    those lines cross; between these places one look decides. Of equals, the one of fewer bytes.
    """
    if not found:
        return []
    lines = [
        line
        for way in found
        for line in (
            (way.meanwhile_ms + way.after_ms, 0.0),
            (way.before_ms + way.after_ms, 8000 * way.bytes),
        )
    ]
    crossings = {
        (height - other) / (slower - slope)
        for (height, slope), (other, slower) in combinations(set(lines), 2)
        if slope != slower
    }
    places = [0.0, *sorted(x for x in crossings if 0 < x < math.inf)]
    middles = [(low + high) / 2 for low, high in pairwise(places)]
    middles.append(2 * places[-1] or 1.0)
    pieces: list[tuple[float, float, Route]] = []
    for x, below, above in zip(middles, places, [*places[1:], math.inf], strict=True):
        winner = min(found, key=lambda way: (way.time_ms(1 / x), way.bytes))
        slow, fast = (1 / above if above else math.inf), (1 / below if below else math.inf)
        if pieces and pieces[-1][2] == winner:
            pieces[-1] = (slow, pieces[-1][1], winner)
        else:
            pieces.append((slow, fast, winner))
    return pieces[::-1]


def link_table(
    codecs: pd.DataFrame,
    times: pd.DataFrame,
    accuracies: Mapping[tuple[str, ...], float],
    no_better: Collection[tuple[str, ...]] = (),
) -> pd.DataFrame:
    """COLUMNS for each measured pair and dataset, a row a start and way.

    `times` has pair, dataset, device and the figures of `latency`; `codecs` has pair, dataset,
    codec and M1's metrics. `accuracies` is by (pair, dataset, codec) of the whole cache and by
    (pair, dataset, "text", tokens); NaN where it is not there. Those of `no_better` are not shown
    to be better than the receiver alone. Neither is called first, however soon it comes.
    """
    rows = []
    for row in records(times):
        pair, dataset = str(row["pair"]), str(row["dataset"])
        own = codecs[(codecs["pair"] == pair) & (codecs["dataset"] == dataset)]
        measured = {str(each.pop("codec")): figures(each) for each in records(own)}
        for start in STARTS:
            found = routes(measured, figures(row), start)
            keys = {way: (pair, dataset, *_key(way)) for way in found}
            over = {
                way: NOT_EVALUATED
                if math.isnan(accuracies.get(key, math.nan))
                else NO_BETTER * (key in no_better)
                for way, key in keys.items()
            }
            leading = fastest([way for way in found if not over[way]])
            for way in found:
                tokens = way.label.split()[1] if way.name == "text" else ""
                rows.append(
                    {
                        "pair": pair,
                        "dataset": dataset,
                        "device": row["device"],
                        "start": start,
                        "way": way.name,
                        "message_tokens": tokens,
                        "codec": way.label if way.name == "cache" else "",
                        "accuracy": accuracies.get(keys[way], math.nan),
                        **{name: getattr(way, name) for name in TIMES},
                        "beats_recomputation_bit_per_s": (
                            math.nan if way is found[0] else break_even(way, found[0])
                        ),
                        "first_at": "; ".join(
                            span(low, high) for low, high, winner in leading if winner == way
                        ),
                        "passed_over": over[way],
                    }
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _key(way: Route) -> tuple[str, ...]:
    """How accuracies know a way; that of recomputation is the whole cache's in 16 bits."""
    if way.name == "text":
        return "text", way.label.split()[1]
    return (way.label if way.name == "cache" else "bf16",)


def read_csv(path: Path) -> pd.DataFrame:
    """A `link_table` that was written. Raises LatentWireError for any other file."""
    kinds = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(_TEXTS, "string")
    known = [name for name in COLUMNS if name != "passed_over"]  # files of before have these
    table = csv_files.read_rows(path, f"a {LINKS_FILE} (docs/links.md)", kinds, known, _check)
    missing = dict.fromkeys((name for name in _TEXTS if name not in table), "")
    table = table.assign(**missing).reindex(columns=list(COLUMNS))
    table[list(_TEXTS)] = table[list(_TEXTS)].fillna("")
    for (pair, dataset), rows in table.groupby(["pair", "dataset"], sort=False):
        alone = rows.loc[rows["way"] == "recomputation", "start"]
        if sorted(alone) != sorted(STARTS):
            where = f"{path}: {dataset}, {pair}"
            raise LatentWireError(f"{where}: it needs one row of recomputation for each start")
    return table


def _check(row: Mapping[str, csv_files.Cell]) -> None:
    """Raise ValueError for a row that no picture can show."""
    for name, allowed in (("start", STARTS), ("way", ROUTES)):
        if row[name] not in allowed:
            raise ValueError(f"{name} is {row[name]!r}, not one of {allowed}")
    for name in TIMES:
        if not csv_files.is_number(row[name]):
            raise ValueError(f"{name} is empty")
    csv_files.require_between(row, _LIMITS)


def table_routes(rows: pd.DataFrame) -> dict[Route, float]:
    """The ways of one pair, dataset and start, as `routes` gave them, with their accuracies."""
    return {
        Route(row["way"], _label(row), **{name: row[name] for name in TIMES}): row["accuracy"]
        for row in records(rows)
    }


def counted(rows: pd.DataFrame) -> list[Route]:
    """Those of the ways that may be called first."""
    return list(table_routes(rows[rows["passed_over"] == ""]))


def sentences(table: pd.DataFrame) -> list[str]:
    """Who answers first, in words: one sentence a pair, dataset and start."""
    said = []
    for key, rows in table.groupby(["pair", "dataset", "start"], sort=False):
        pair, dataset, start = (str(part) for part in key)
        since = "from the question on" if start == "question" else "once the sharer's cache stands"
        found, leading = table_routes(rows), fastest(counted(rows))
        if not leading:
            said.append(
                f"{dataset}, {pair}, {since}: none of the ways was evaluated on all questions and"
                " is better than the receiver alone, so which is first is not said."
            )
            continue
        parts = [f"{named(way, found[way])} {span(low, high)}" for low, high, way in leading]
        said.append(
            f"{dataset}, {pair}, {since}: first to answer is {', '.join(parts)};"
            f" {_against_recomputation(found, counted(rows))} ({rows['device'].iloc[0]}, batch 1)."
        )
    return said


def _against_recomputation(found: Iterable[Route], sound: Iterable[Route]) -> str:
    (recomputation,) = (way for way in found if way.name == "recomputation")
    caches = {way.label: break_even(way, recomputation) for way in sound if way.name == "cache"}
    codec = min(caches, key=lambda name: caches[name], default=None)
    again = f"recomputation{' from the evidence as text' if recomputation.bytes else ''}"
    if codec is None or math.isinf(caches[codec]):
        return f"no cache is sooner than {again} at any bandwidth"
    return f"a cache ({codec}) is sooner than {again} {span(caches[codec], math.inf)}"


def span(low_bit_per_s: float, high_bit_per_s: float) -> str:
    """An interval of bandwidths in words."""
    low, high = human_bits_per_s(low_bit_per_s), human_bits_per_s(high_bit_per_s)
    if math.isinf(high_bit_per_s):
        return f"from {low} on" if low_bit_per_s else "at any bandwidth"
    return f"from {low} to {high}" if low_bit_per_s else f"up to {high}"


def named(way: Route, accuracy: float) -> str:
    """A way with the accuracy of its answers, where that is known."""
    name = f"the cache in {way.label}" if way.name == "cache" else way.label
    return name if math.isnan(accuracy) else f"{name} ({percent(accuracy)} % right)"


def _label(row: Mapping[str, object]) -> str:
    if row["way"] == "text":
        return f"text {row['message_tokens']} tokens"
    return str(row["codec"] or row["way"])


def figures(row: Mapping[str, object]) -> dict[str, float]:
    """The numbers of a row of M1's measurements, by name."""
    return {name: float(value) for name, value in row.items() if isinstance(value, float)}
