"""The budget curve: one row a point, made from the records of its conditions.

docs/columns.md says what each column means; COLUMNS is the same list with its types.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from latentwire.analysis import csv_files, unanswered
from latentwire.analysis.bootstrap import score_interval
from latentwire.analysis.comparison_columns import (
    BY_DONOR,
    corrected,
    distinct_keys_columns,
    pairing_columns,
    receiver_columns,
    reference_columns,
)
from latentwire.analysis.content_columns import content_columns
from latentwire.analysis.donors import DonorAnswers, lent_answers
from latentwire.analysis.frames import FAMILY, whole_caches
from latentwire.analysis.letter_distribution import (
    at_limit,
    commonest_key_share,
    in_format_share,
    letter_prior_accuracy,
    ratio,
    spread,
)
from latentwire.analysis.noninferiority import DEFAULT_MARGIN_POINTS
from latentwire.analysis.option_columns import option_columns
from latentwire.analysis.stats import Outcomes, Score, wilson_interval
from latentwire.controls.registry import CONTROLS, DERANGED, MATCHED, in_place_of_own
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.spec.axes import (
    AXES,
    C2C,
    CACHES,
    NONE,
    ROW_AXES,
    SENDING,
    SYSTEMS,
    Point,
    require_fitting,
    sort_key,
)
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.names import label
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.registry import task_of_records
from latentwire.tasks.task import Task

_OF_CONTROL = {"accuracy": "float64", "score": "float64", "examples": "int64"}
_TOP_LETTER = {"top_letter": "string", "top_letter_share": "float64", "degenerate": "bool"}


def _of_type(kind: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, kind)


def _with_ends(name: str) -> tuple[str, str, str]:
    """A column and those of its interval."""
    return name, f"{name}_low", f"{name}_high"


def _tested(name: str) -> dict[str, str]:
    """The columns of an estimate."""
    return _of_type("float64", *_with_ends(name), f"{name}_p", f"{name}_p_holm")


def _of_controls(kinds: Mapping[str, str], controls: Iterable[str]) -> dict[str, str]:
    return {f"{control}_{name}": kind for control in controls for name, kind in kinds.items()}


OTHERS = tuple(name for name in in_place_of_own() if name != DERANGED)
# Column -> pandas type, in the order of the file. The types with a capital and "string" hold
# missing values beside whole numbers and text, so a file read back equals the frame written.
COLUMNS: dict[str, str] = {
    **_of_type("string", *FAMILY),
    **{name: AXES[name].column for name in ROW_AXES},
    **_of_type("int64", "examples", "examples_total"),
    "complete": "bool",
    "correct": "int64",
    **_of_type("float64", *_with_ends("accuracy")),
    "metric": "string",
    **_of_type("float64", *_with_ends("score"), "wire_bytes_mean"),
    **_of_type("Int64", "wire_bytes_min", "wire_bytes_max", "messages"),
    "wire_bytes_per_question": "float64",
    **_of_type("float64", "bits_per_element", "unused_bytes_mean"),
    **_of_controls(_OF_CONTROL, [DERANGED]),
    **_of_type("int64", "deranged_other_length", "pairing_examples"),
    **_of_type("float64", *_with_ends("pairing_gain"), "pairing_p", "pairing_p_holm"),
    "donors": "int64",
    **_of_type("float64", "own_rank_p", "own_rank_p_holm"),
    "key_collisions": "int64",
    **_tested("pairing_gain_distinct_keys"),
    "receiver_examples": "int64",
    **_tested("gain_over_receiver"),
    **_tested("harm"),
    **_tested("influence"),
    **_tested("follows_donor"),
    **_tested("bits_communicated"),
    "bits_per_byte": "float64",
    **_tested("key_logprob_gain"),
    **_tested("calibration_error"),
    **_of_controls(_OF_CONTROL, OTHERS),
    "unanswered": "int64",
    **_of_controls({"unanswered": "int64"}, in_place_of_own()),
    "unanswered_reason": "string",
    **_of_type("float64", "unparsed_share", "follows_donor_share"),
    **_TOP_LETTER,
    **_of_type("float64", *(f"share_{letter}" for letter in LETTERS), "share_other"),
    **_of_type("float64", "in_format_share", "output_tokens_mean"),
    "at_limit": "int64",
    **_of_controls(_TOP_LETTER, in_place_of_own()),
    **_of_type("float64", "letter_prior_accuracy", "commonest_key_share"),
    **_of_type("int64", "bf16_examples", "bf16_differing"),
    **_of_type("float64", *_with_ends("bf16_difference"), "bf16_p", "bf16_p_holm"),
    **_of_type("float64", "margin_points", "non_inferior_p", "non_inferior_p_holm"),
    "non_inferior": "string",
    "questions_needed": "Int64",
    **_of_type("string", "fuser_hash", "dataset_hash"),
    **_of_type("float64", *_with_ends("beats_text_bytes")),
}

# Without these a file is no budget curve; others may be missing in one of an older version.
REQUIRED = (
    *("pair", "dataset", "source", "system", "codec", "keep_ratio", "order", "examples"),
    *("accuracy", "accuracy_low", "accuracy_high", "wire_bytes_mean"),
)

# What the numbers of a file can be, by how their columns begin or end. Only "never" is infinite.
_BY_END: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("_accuracy", "_score", "_share", "_p", "_p_holm"), (0, 1)),
    **dict.fromkeys(("keep_ratio", "budget_ratio"), (0, 1)),
    **dict.fromkeys(("kv_bits", "bits_per_element", "output_tokens_mean"), (0, 1e9)),
    "margin_points": (0, 100),
}
_BY_START: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "score", "share_"), (0, 1)),
    **dict.fromkeys(("pairing_gain", "bf16_difference", "gain_over_receiver", "harm"), (-1, 1)),
    **dict.fromkeys(("influence", "calibration_error"), (0, 1)),
    "follows_donor": (-1, 1),
    **dict.fromkeys(("bits_communicated", "bits_per_byte"), (0, 1e9)),
    "key_logprob_gain": (-1e9, 1e9),
    **dict.fromkeys(("wire_bytes_", "budget_bytes", "unused_bytes_"), (0, 1e18)),
    "beats_text_": (0, float("inf")),
}
_LIMITS = {
    name: limits
    for name in COLUMNS
    for named, by in ((str.startswith, _BY_START), (str.endswith, _BY_END))
    for part, limits in by.items()
    if named(name, part)
}

SOURCES = ("local", "published")
REFERENCE_CODEC = "bf16"
# The whole cache in 16 bits: what other codecs and shorter caches are compared with.
REFERENCE = Condition(C2C, Channel(REFERENCE_CODEC), MATCHED)


@dataclass(frozen=True, kw_only=True)
class ConditionResult(Point):
    """What one condition, or a part of its examples, yielded."""

    pair: str
    dataset: str
    source: str  # one of SOURCES
    examples_total: int  # scored questions of the dataset
    records: tuple[Record, ...]
    seconds: float  # time that computing the records took

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_source(self.source)

    @property
    def family(self) -> tuple[str, str, str]:
        """Points that are compared with the same reference and corrected together."""
        return self.pair, self.dataset, self.source

    @property
    def is_reference(self) -> bool:
        """Whether it is what others of its alignment are compared with."""
        return replace(self, alignment=None).place == REFERENCE.point.place

    def __str__(self) -> str:
        return ", ".join([*self.family, label(vars(self), ["control"])])


def _require_source(source: object) -> None:
    if source not in SOURCES:
        raise LatentWireError(f"source is {source!r}, not one of {SOURCES}")


@dataclass(frozen=True)
class _Measured:
    """A point's records by example id, under each control, and the columns they give alone."""

    point: ConditionResult  # any part of it
    own: dict[str, Record]
    deranged: DonorAnswers
    row: dict[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether all questions were asked, with the own message and with another question's."""
        return min(len(self.own), self.deranged.examples) == self.row["examples_total"]


def build_curve(
    results: Iterable[ConditionResult], *, margin_points: float = DEFAULT_MARGIN_POINTS
) -> pd.DataFrame:
    """Join results into the tidy table of COLUMNS, one row a point, in a fixed order.

    Results of one point may come in parts and overlap (chunk runs): an example counts once.
    All controls but `matched` become columns of the point they belong to. Points of systems that
    cannot answer such questions (`System.serves`), which earlier versions asked, are left out. Rows
    are sorted by pair, dataset and source, then as `axes.sort_key` has it. p-values are corrected
    over the points of one family, those of caches apart from those of what competes with them.

    `margin_points` is what `non_inferior` allows to be lost against 16 bits. Raises LatentWireError
    where one example has two outcomes, parts of a point disagree on kv_bits or examples_total, or a
    point has more examples than its dataset.
    """
    points: dict[tuple[Any, ...], list[ConditionResult]] = defaultdict(list)
    for result in results:
        points[*result.family, *result.place].append(result)
    families: dict[tuple[str, str, str], list[_Measured]] = defaultdict(list)
    for parts in points.values():
        measured = _measure(parts)
        if _can_be_answered(measured):
            families[measured.point.family].append(measured)
    rows = [row for family in families.values() for row in _compared(family, margin_points)]
    rows.sort(key=lambda row: (row["pair"], row["dataset"], row["source"], *sort_key(row)))
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def with_hashes(
    frame: pd.DataFrame,
    fusers: Mapping[tuple[str, str], str],
    datasets: Mapping[tuple[str, str, str], str],
) -> pd.DataFrame:
    """The table with `fuser_hash` (sha256 of its files, by pair and source) and `dataset_hash` (of
    the questions' content, by FAMILY) filled in where they are known."""
    keys = list(frame[FAMILY].itertuples(index=False, name=None))
    hashes = {
        "fuser_hash": [fusers.get((pair, source)) for pair, _, source in keys],
        "dataset_hash": [datasets.get(key) for key in keys],
    }
    return _typed(
        frame.assign(**{n: pd.array(found, dtype="string") for n, found in hashes.items()})
    )


def reference_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a curve's rows those of the whole cache in 16 bits: one an alignment."""
    whole = whole_caches(rows)
    return whole[(whole["codec"] == REFERENCE_CODEC) & whole["calibration"].isna()]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV (UTF-8, empty for missing), replacing `path` in one step."""
    csv_files.write_csv(_typed(frame), path)


def read_csv(path: Path) -> pd.DataFrame:
    """Read what `write_csv` wrote, equal to the last bit.

    Columns that an older file does not have are filled in: the questions of a dataset are then
    the most that any of its rows answered. Raises LatentWireError, naming the line, for a file that
    cannot be read or is not such a table.
    """
    frame = csv_files.read_rows(path, "a budget curve", COLUMNS, REQUIRED, _check)
    return _typed(_filled(frame))


def _check(row: Mapping[str, csv_files.Cell]) -> None:
    """Raise ValueError for a row that `write_csv` cannot have written and no picture can show."""
    for name in ("pair", "dataset", "codec"):
        if row[name] is None:
            raise ValueError(f"{name} is empty")
    try:
        _require_source(row["source"])
        require_fitting(row)
    except LatentWireError as error:
        raise ValueError(str(error)) from None
    csv_files.require_between(row, _LIMITS)


def _filled(frame: pd.DataFrame) -> pd.DataFrame:
    """A table that was read, with the columns that it lacks."""
    nothing = {"float64": float("nan"), "int64": 0, "bool": False}
    lacking = COLUMNS.keys() - set(frame.columns)
    full = frame.assign(**{name: nothing.get(COLUMNS[name]) for name in lacking})
    if "score" in lacking:
        ends = {f"score{end}": full[f"accuracy{end}"] for end in ("", "_low", "_high")}
        full = full.assign(**ends, metric=Task.metric)
    for control in in_place_of_own():
        if f"{control}_score" in lacking:
            full = full.assign(**{f"{control}_score": full[f"{control}_accuracy"]})
    if "examples_total" in lacking:
        most = full.groupby(["dataset", "source"])["examples"].transform("max")
        full = full.assign(examples_total=most)
    if "complete" in lacking:
        full = full.assign(complete=full["examples"] == full["examples_total"])
    if "deranged_examples" in lacking:
        full = full.assign(deranged_examples=full["pairing_examples"])
    for control in OTHERS:
        if f"{control}_examples" in lacking:
            asked = full["examples"].where(full[f"{control}_accuracy"].notna(), 0)
            full = full.assign(**{f"{control}_examples": asked})
    return full


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds: Mapping[str, Any] = COLUMNS
    # The copy puts columns of one type together again, or pandas warns of whoever adds one.
    return frame[list(COLUMNS)].astype(dict(kinds)).copy()


def _compared(family: Sequence[_Measured], margin_points: float) -> list[dict[str, Any]]:
    """The rows of a family, with the columns that compare conditions."""
    own = [outcomes(measured.own) for measured in family]
    deranged = [[outcomes(each) for each in measured.deranged.answered] for measured in family]
    pairing = _of_each_kind(
        [(measured.point.system in CACHES, measured.is_complete) for measured in family],
        lambda places: pairing_columns([(own[p], deranged[p]) for p in places]),
    )
    alone = next((measured for measured in family if measured.point.system == "receiver"), None)
    of_receiver = outcomes(unanswered.answered(alone.own)) if alone else {}
    gains = [
        distinct_keys_columns(matched, lent, measured.deranged)
        | receiver_columns(matched, lent, of_receiver if measured.point.system in SENDING else {})
        for measured, matched, lent in zip(family, own, deranged, strict=True)
    ]
    rows = [
        {**measured.row, **columns, **gain, **loss}
        for measured, columns, gain, loss in zip(
            family, pairing, gains, _losses(family, own, margin_points), strict=True
        )
    ]
    return _corrected(rows, alone is not None and alone.row["complete"])


def _losses(
    family: Sequence[_Measured], own: Sequence[Outcomes], margin_points: float
) -> list[dict[str, Any]]:
    """The columns of each point against 16 bits."""
    of_alignment: dict[str | None, Outcomes] = {
        measured.point.alignment: outcomes(unanswered.answered(measured.own))
        for measured in family
        if measured.point.is_reference
    }
    references = [of_alignment.get(measured.point.alignment, {}) for measured in family]
    compared = [
        answered if measured.point.system in CACHES and not measured.point.is_reference else {}
        for measured, answered in zip(family, own, strict=True)
    ]
    kinds = [
        (
            min(len(answered), len(reference)) == measured.row["examples_total"],
            measured.point.alignment,
        )
        for measured, answered, reference in zip(family, own, references, strict=True)
    ]
    return _of_each_kind(
        kinds,
        lambda places: reference_columns(
            [compared[p] for p in places], references[places[0]], margin_points
        ),
    )


def _corrected(rows: list[dict[str, Any]], receiver_complete: bool) -> list[dict[str, Any]]:
    """The rows with corrected p-values of what is no pairing gain or loss, each over the rows of
    its kind whose own answers and those it is compared with are complete, or not."""
    own = [row["complete"] for row in rows]
    lent = [row["deranged_examples"] >= row["examples_total"] for row in rows]
    for names, is_complete in (
        (BY_DONOR, [a and b for a, b in zip(own, lent, strict=True)]),
        (("gain_over_receiver",), [each and receiver_complete for each in own]),
        (("harm",), [each and receiver_complete for each in lent]),
        (("calibration_error",), own),
    ):
        kinds = [(row["system"] in CACHES, c) for row, c in zip(rows, is_complete, strict=True)]
        columns = _of_each_kind(kinds, partial(_corrections, rows, names))
        rows = [row | each for row, each in zip(rows, columns, strict=True)]
    return rows


def _corrections(
    rows: Sequence[dict[str, Any]], names: Sequence[str], places: list[int]
) -> list[dict[str, Any]]:
    return corrected([rows[place] for place in places], names)


def _of_each_kind(
    kinds: Sequence[Hashable], columns: Callable[[list[int]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What `columns` says of the places of each kind, back in order.

    p-values are corrected over a kind. What is not complete is one of its own, so that a trial run
    of some questions changes nothing of what was answered whole.
    """
    found: list[dict[str, Any]] = [{}] * len(kinds)
    for kind in dict.fromkeys(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        for place, row in zip(places, columns(places), strict=True):
            found[place] = row
    return found


def _measure(parts: Sequence[ConditionResult]) -> _Measured:
    point = parts[0]
    total = _agreed(point, "examples_total", {part.examples_total for part in parts})
    records = {
        control: merged(
            f"{point}, control {control}", [part for part in parts if part.control == control]
        )
        for control in (*CONTROLS, NONE)
        if control != DERANGED
    }
    own = records[MATCHED if point.system in SENDING else NONE]
    lent = lent_of([part for part in parts if part.control == DERANGED], own)
    if len(own) > total:
        raise LatentWireError(f"{point}: {len(own)} examples, but its dataset has {total}.")

    correct = sum(record.correct for record in own.values())
    interval = wilson_interval(correct, len(own))
    task = task_of_records(point.dataset)
    answers = {control: list(found.values()) for control, found in records.items()}
    answers[DERANGED] = lent.every
    row: dict[str, Any] = {
        **{name: getattr(point, name) for name in (*FAMILY, *ROW_AXES)},
        "kv_bits": _agreed(point, "kv_bits", {part.kv_bits for part in parts}),
        "examples": len(own),
        "examples_total": total,
        "complete": len(own) == total,
        "correct": correct,
        "accuracy": _accuracy(own.values()),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        **_score_columns(own, task),
        **_byte_columns(own),
        "unanswered": unanswered.count(own.values()),
        "unanswered_reason": unanswered.commonest_reason(chain.from_iterable(answers.values())),
        "donors": len(lent.by_donor),
        "deranged_other_length": sum(each.donor_tokens is not None for each in lent.every),
        **content_columns(own, lent, task),
        **option_columns(own, lent),
        **_answer_columns(own.values(), task),
    }
    for control in in_place_of_own():
        row |= _control_columns(control, answers[control])
    row[f"{DERANGED}_examples"] = lent.examples
    return _Measured(point, own, lent, row)


def _control_columns(control: str, found: Sequence[Record]) -> dict[str, Any]:
    """What the answers under a control are alone."""
    answers = spread(found)
    return {
        f"{control}_accuracy": _accuracy(found),
        f"{control}_score": ratio(sum(record.value for record in found), len(found)),
        f"{control}_examples": len(found),
        f"{control}_unanswered": unanswered.count(found),
        **{f"{control}_{name}": getattr(answers, name) for name in _TOP_LETTER},
    }


def _can_be_answered(measured: _Measured) -> bool:
    """Whether there could be an answer, or is one."""
    options = task_of_records(measured.point.dataset).has_options
    private = any(record.cluster for record in measured.own.values())
    system = SYSTEMS[measured.point.system]
    return system.serves(private, options) or bool(unanswered.answered(measured.own))


def _score_columns(own: Mapping[str, Record], task: Task) -> dict[str, Any]:
    interval = score_interval(outcomes(own))
    ends = {"score_low": interval.low, "score_high": interval.high}
    return {"metric": task.metric, "score": mean_score(own), **ends}


def _byte_columns(own: Mapping[str, Record]) -> dict[str, Any]:
    answered = unanswered.answered(own)
    sent = [record.wire_bytes for record in answered.values()]
    unused = [left for record in own.values() if (left := record.unused_bytes) is not None]
    by_message: dict[str, list[int]] = defaultdict(list)
    for record in answered.values():
        if record.wire_bytes:
            # Questions on one evidence, which the sharer alone reads, get one message.
            by_message[record.cluster or record.example_id].append(record.wire_bytes)
    return {
        "wire_bytes_mean": ratio(sum(sent), len(sent)),
        "wire_bytes_min": min(sent, default=None),
        "wire_bytes_max": max(sent, default=None),
        "messages": len(by_message),
        "wire_bytes_per_question": ratio(
            sum(sum(told) / len(told) for told in by_message.values()), len(sent)
        ),
        "bits_per_element": ratio(8 * sum(sent), sum(record.elements for record in own.values())),
        "unused_bytes_mean": ratio(sum(unused), len(unused)),
    }


def _answer_columns(own: Collection[Record], task: Task) -> dict[str, Any]:
    """What the answers are, right or wrong."""
    answers, is_choice = spread(own), task.metric == Task.metric
    return {
        "unparsed_share": answers.unparsed_share,
        **{name: getattr(answers, name) for name in _TOP_LETTER},
        **{f"share_{letter}": answers.shares[letter] for letter in LETTERS},
        "share_other": answers.other_share,
        "in_format_share": in_format_share(own, task),
        "output_tokens_mean": answers.output_tokens_mean,
        "at_limit": at_limit(own, task),
        "letter_prior_accuracy": letter_prior_accuracy(own) if is_choice else float("nan"),
        "commonest_key_share": commonest_key_share(own) if is_choice else float("nan"),
    }


def merged(name: str, parts: Iterable[ConditionResult]) -> dict[str, Record]:
    """Example id -> record, over the parts of one condition, in the order of the questions; an
    example counts once.

    Raises LatentWireError, with the condition's `name`, when an example has two outcomes.
    """
    records: dict[str, Record] = {}
    for part in parts:
        for record in part.records:
            known = records.setdefault(record.example_id, record)
            # The generated text may differ in ways that no accuracy depends on.
            if known is not record and _counted(known) != _counted(record):
                raise LatentWireError(
                    f"{name}: example {record.example_id} has two outcomes, "
                    f"{_counted(known)} and {_counted(record)}; delete one of the two runs."
                )
    # What is drawn by chance must not depend on who computed which chunk first.
    return dict(sorted(records.items(), key=lambda named: (named[1].index, named[0])))


def lent_of(parts: Sequence[ConditionResult], own: Mapping[str, Record]) -> DonorAnswers:
    """The answers that count of a condition's parts with other questions' messages, of any donors;
    `own` are those to its own messages."""
    by_number: dict[int, list[ConditionResult]] = defaultdict(list)
    for part in parts:
        by_number[part.donor or 1].append(part)
    found = {number: merged(str(some[0]), some) for number, some in by_number.items()}
    return lent_answers(found, own, merges=any(part.system in CACHES for part in parts))


def _counted(record: Record) -> tuple[object, ...]:
    right = (record.answer, record.predicted, record.correct, record.score)
    return (*right, record.wire_bytes, record.donor_id, record.donor_answer)


def _agreed(point: ConditionResult, name: str, values: set[Any]) -> Any:
    if len(values) > 1:
        raise LatentWireError(f"{point}: its runs disagree on {name}: {sorted(values, key=str)}.")
    return next(iter(values))


def outcomes(records: Mapping[str, Record]) -> dict[str, float]:
    """Example id -> how good its answer is."""
    return {
        example_id: record.correct
        if record.score is None and record.cluster is None
        else Score(record.value, record.cluster or "")
        for example_id, record in records.items()
    }


def mean_score(records: Mapping[str, Record]) -> float:
    """Mean score of some answers; NaN of none."""
    return ratio(sum(record.value for record in records.values()), len(records))


def _accuracy(records: Collection[Record]) -> float:
    return ratio(sum(record.correct for record in records), len(records))
