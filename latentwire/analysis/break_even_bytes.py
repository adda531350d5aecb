"""From how many bytes on a cache beats what competes with it, if it ever does.

At a budget of b bytes a question, the best that can be done with caches is the accuracy of the best
condition that sends at most b; likewise with messages, or with nothing (the receiver alone). Caches
beat messages from b on if theirs is higher at b and at every larger budget that was measured.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentwire.analysis.bootstrap import RESAMPLES, SEED, draws
from latentwire.analysis.curve import ConditionResult, outcomes
from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.frames import FAMILY
from latentwire.analysis.measured_condition import MeasuredCondition, measured_conditions
from latentwire.analysis.stats import CONFIDENCE, Outcomes, clusters
from latentwire.controls.registry import MATCHED
from latentwire.spec.axes import CACHES, NONE, SENDING, TEXTS

RIVALS = {"text": TEXTS, "any message": tuple(name for name in SENDING if name not in CACHES)}
ANSWERS = ("letter", "logits")  # what is sent in place of a cache and is no text
COLUMNS = (
    *("pair", "dataset", "source", "rivals", "questions"),
    *("bytes", "bytes_low", "bytes_high", "never_share"),
)
Point = tuple[float, Outcomes]  # mean bytes of a question, and which were answered rightly


def break_even_table(
    results: Iterable[ConditionResult], resamples: int = RESAMPLES, seed: int = SEED
) -> pd.DataFrame:
    """A row of COLUMNS for each pair, dataset, source and kind of rivals that was measured beside
    caches. Only complete conditions count; without one on both sides `questions` is 0.

    `bytes` is infinite where caches never beat the rivals. The interval (95 %, bootstrap over the
    questions that all conditions share) has the budgets above `bytes_low` and up to `bytes_high`,
    which is infinite where the resamples say never. Only measured budgets can be drawn, so the
    lower end is the measured budget before the smallest that was: caches overtake somewhere
    between the two. `never_share` is the share of resamples in which they never do. The best of
    many conditions looks better than it is: with more caches than messages, the interval leans to
    the caches.
    """
    families: dict[tuple[str, str, str], list[MeasuredCondition]] = defaultdict(list)
    for one in measured_conditions(each for each in results if each.control in (MATCHED, NONE)):
        families[one.part.family].append(one)
    rows = []
    for (pair, dataset, source), members in families.items():
        by_system: dict[str, list[Point]] = defaultdict(list)
        there = {one.part.system for one in members}
        for one in members:
            # A trial run of some questions is no condition that others are compared on; what could
            # answer none has no bytes.
            if one.part.system != "sharer" and one.is_complete and not one.is_mute:
                by_system[one.part.system].append((one.wire_bytes, outcomes(one.records)))
        caches = [each for system in CACHES for each in by_system[system]]
        nothing = by_system["receiver"] + by_system["calibrated"]
        for name, systems in RIVALS.items():
            rivals = [each for system in systems for each in by_system[system]]
            if there.isdisjoint(CACHES) or there.isdisjoint(systems):
                continue
            if not caches or not rivals:
                rows.append((pair, dataset, source, name, 0, *[float("nan")] * 4))
                continue
            found = break_even(caches, rivals + nothing, resamples, seed)
            rows.append((pair, dataset, source, name, *found))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def break_even(
    caches: Sequence[Point], rivals: Sequence[Point], resamples: int, seed: int
) -> tuple[int, float, float, float, float]:
    """Questions, bytes, the ends of their interval (the lower one outside of it), and the share of
    resamples without any.

    All NaN without a question that every point has.
    """
    points = [*caches, *rivals]
    common = set.intersection(*(set(answered) for _, answered in points))
    if not common:
        nan = float("nan")
        return 0, nan, nan, nan, nan
    shared = clusters({name: points[0][1][name] for name in common})
    # [clusters, points]; counts of right answers are exact in float32, other scores nearly.
    right = np.array(
        [[sum(answered[name] for name in names) for _, answered in points] for names in shared],
        np.float32,
    )
    sent = np.array([wire_bytes for wire_bytes, _ in points])
    is_cache = np.arange(len(points)) < len(caches)
    (own,) = _crossed(right.sum(0, keepdims=True), sent, is_cache)
    drawn = np.concatenate(
        [_crossed(counts @ right, sent, is_cache) for counts in draws(len(shared), resamples, seed)]
    )
    tail = (1 - CONFIDENCE) / 2
    # "never" is infinite: ends are values that were drawn, not between two.
    first, last = np.quantile(drawn, [tail, 1 - tail], method="nearest")
    # Nobody knows where between two budgets the crossing lies: the interval begins above the last
    # one at which caches were behind. A drawn interval of one budget would have no width.
    low = max((wire_bytes for wire_bytes in sent if wire_bytes < min(first, own)), default=0.0)
    high = max(last, own)
    return len(common), float(own), float(low), float(high), float(np.isinf(drawn).mean())


def _crossed(
    right: NDArray[np.float32], sent: NDArray[np.float64], is_cache: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Bytes from which on caches beat rivals, by resample: [R] from numbers right [R, points]."""
    budgets = np.unique(sent)
    best = {}
    for kind in (True, False):
        chosen = np.flatnonzero(is_cache == kind)
        chosen = chosen[np.argsort(sent[chosen], kind="stable")]
        reached = np.maximum.accumulate(right[:, chosen], axis=1)
        # How many of them each budget pays for; before the first, nothing is answered.
        paid = np.searchsorted(sent[chosen], budgets, side="right")
        nobody = np.full((len(right), 1), -1.0, np.float32)
        best[kind] = np.concatenate([nobody, reached], axis=1)[:, paid]
    ahead = best[True] > best[False]
    from_here_on = np.logical_and.accumulate(ahead[:, ::-1], axis=1)[:, ::-1]
    first = from_here_on.argmax(axis=1)
    return np.where(from_here_on.any(axis=1), budgets[first], np.inf)


def with_break_even(frame: pd.DataFrame, crossed: pd.DataFrame) -> pd.DataFrame:
    """A budget curve with `beats_text_bytes`, `_low` and `_high` filled in where `crossed` (rows of
    `break_even_table`) knows them; the same in all rows of a pair, dataset and source."""
    text = crossed[crossed["rivals"] == "text"].set_index(FAMILY)
    places = list(frame[FAMILY].itertuples(index=False, name=None))
    nan = float("nan")
    return frame.assign(
        **{
            f"beats_text_{name}": [
                float(text.loc[place, name]) if place in text.index else nan for place in places
            ]
            for name in ("bytes", "bytes_low", "bytes_high")
        }
    )


def text_sentence(rows: pd.DataFrame) -> str:
    """What a budget curve's rows of one pair, dataset and source say of caches and text; or ""."""
    known = rows.dropna(subset="beats_text_bytes")
    if known.empty:
        return ""
    names = ("beats_text_bytes", "beats_text_bytes_low", "beats_text_bytes_high")
    own, low, high = (float(known[name].iloc[0]) for name in names)
    found = "never beat text" if np.isinf(own) else f"beat text from {human_bytes(own)} on"
    line = "" if np.isinf(own) else "thin line; "
    return f"Caches {found} ({line}95 % interval: {_reach(low, high)}).{_stay_above(rows)}"


def _stay_above(rows: pd.DataFrame) -> str:
    """Which answers of a few bytes no cache beats, for "text" is not all that competes."""
    whole = rows[rows["complete"] & rows["score"].notna()]
    best = whole.loc[whole["system"].isin(CACHES), "score"].max()
    above = whole[whole["system"].isin(ANSWERS) & (whole["score"] >= best)]
    names = [
        f"{row['system']} ({human_bytes(row['wire_bytes_mean'])})"
        for row in above.to_dict("records")
    ]
    return f" No text, and beaten by no cache: {', '.join(names)}." if names else ""


def sentences(frame: pd.DataFrame) -> list[str]:
    """What the rows of `break_even_table` say, one each."""
    said = []
    for row in frame.to_dict("records"):
        published = ", published" if row["source"] != "local" else ""
        where = f"{row['dataset']}, {row['pair']}{published}"
        if not row["questions"]:
            said.append(
                f"{where}: no conditions both of caches and of {row['rivals']} answered all"
                " questions, so from where on caches are better is not said."
            )
            continue
        own = row["bytes"]
        found = "never beat" if np.isinf(own) else f"beat, from {human_bytes(own)} on,"
        said.append(
            f"{where}: caches {found} {row['rivals']} ({_chance(row)}, {row['questions']}"
            " questions)."
        )
    return said


def _chance(row: Mapping[Any, Any]) -> str:
    """What other questions might have shown, without what says nothing."""
    never = round(100 * row["never_share"])
    if never == 100 and np.isinf(row["bytes"]):
        return "in 100 % of resamples"
    reach = f"95 % interval: {_reach(row['bytes_low'], row['bytes_high'])}"
    return f"{reach}; never in {never} % of resamples" if never > 0 else reach


def _reach(low: float, high: float) -> str:
    """The interval, which lies above `low` and up to `high`, in words."""
    if np.isinf(high):
        return f"above {human_bytes(low)}, or never" if low else "any bytes, or never"
    if human_bytes(low) == human_bytes(high):
        return f"about {human_bytes(high)}"
    return (
        f"above {human_bytes(low)}, at most {human_bytes(high)}"
        if low
        else (f"at most {human_bytes(high)}")
    )
