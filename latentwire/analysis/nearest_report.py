"""The conditions to use, as text for the terminal, at most 100 columns wide, and as JSON values."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from latentwire.analysis.formatting import human_bytes, interval, percent
from latentwire.analysis.nearest import Choice, Wanted
from latentwire.spec.axes import ROW_AXES, or_none
from latentwire.spec.names import condition_name

WIDTH = 100
_NUMBERS = (
    *("examples", "wire_bytes_mean", "wire_bytes_max", "score", "score_low", "score_high"),
    *("pairing_gain", "pairing_gain_low", "pairing_gain_high"),
)


def render(choices: Sequence[Choice], wanted: Wanted) -> str:
    """A few lines for each question set."""
    return "\n".join(line for one in choices for line in (*_lines(one, wanted), ""))


def as_json(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """The same as values of strict JSON: shares from 0 to 1, bytes; null for what there is not."""
    found = []
    for one in choices:
        row, over = one.row, one.over_receiver
        found.append(
            {
                "dataset": one.dataset,
                "pair": one.pair,
                "metric": one.metric,
                "name": condition_name(row) if row else None,
                "condition": {name: or_none(row[name]) for name in ROW_AXES} if row else None,
                **{name: or_none(row[name]) if row else None for name in _NUMBERS},
                "receiver_score": over.score if over else None,
                "over_receiver": over.difference if over else None,
                "over_receiver_low": over.interval.low if over else None,
                "over_receiver_high": over.interval.high if over else None,
                "notes": list(one.notes),
            }
        )
    return found


def _lines(one: Choice, wanted: Wanted) -> Iterator[str]:
    yield f"{one.dataset}, {one.pair}: {one.metric}, {wanted}"
    if one.row:
        row = one.row
        most = f" (at most {human_bytes(row['wire_bytes_max'])})"
        score = f"{percent(row['score'])} % {interval(row['score_low'], row['score_high'])}"
        yield (
            f"  {condition_name(row)}: {human_bytes(row['wire_bytes_mean'])} a question{most},"
            f" {score} of {row['examples']} questions"
        )
        if not math.isnan(row["pairing_gain"]):
            yield _difference(
                "pairing gain", *(row[f"pairing_gain{e}"] for e in ("", "_low", "_high"))
            )
    if one.over_receiver:
        over = one.over_receiver
        yield _difference("over the receiver alone", over.difference, *over.interval)
    yield from (f"  {line}" for note in one.notes for line in textwrap.wrap(note, WIDTH - 2))


def _difference(name: str, value: float, low: float, high: float) -> str:
    return f"  {name} {percent(value, signed=True)} {interval(low, high, signed=True)} points"
