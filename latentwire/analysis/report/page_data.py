"""What the report shows, as one JSON object: points, answers in columns, questions once.

texts       every distinct output, once
donors      every distinct list of donors (places in the question table, -1 for unknown), once
questions   a table a question set: places by `index`, with ids, keys and prompts
groups      pair, dataset and source; the question table that its answers go by
regimes     M14's maps, see `regimes_data`
points      the budget curve's rows, each with its answers' place by control
answers     a condition: the answer to each question (a letter, "-" for none, " " for not asked),
            whether it is right ("1", "0"), and the place of each output in `texts` (-1 for not
            asked)

A column of single characters is one string, any other a list.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from latentwire.analysis.codec_styles import codec_styles
from latentwire.analysis.comparison_columns import BY_DONOR, BY_RECEIVER
from latentwire.analysis.curve import ConditionResult, merged
from latentwire.analysis.findings_told import telling
from latentwire.analysis.frames import FAMILY, records
from latentwire.analysis.pairing_told import why_no_gain
from latentwire.analysis.plot_baselines import BASELINE_STYLES, NAMES, baseline_key
from latentwire.analysis.provenance import Origin, run_url
from latentwire.controls.registry import CONTROLS, MATCHED, in_place_of_own
from latentwire.evaluation.record import Record
from latentwire.pairs.demonstration import demonstration_note
from latentwire.spec.axes import (
    ALONE,
    AXES,
    CACHES,
    NONE,
    PLACE_AXES,
    ROW_AXES,
    SYSTEMS,
    WHOLE,
    applying,
    is_missing,
)
from latentwire.spec.names import label, row_name
from latentwire.tasks.dataset import Dataset

NOT_ASKED, UNPARSED = " ", "-"
UNKNOWN = -1
# What the content of the message did: estimates with interval and p-value.
CONTENT = (*BY_RECEIVER, *BY_DONOR, "calibration_error")
# Columns of the curve that the page shows; NaN and missing values become null.
SHOWN = (
    *ROW_AXES,
    *("examples", "examples_total", "complete"),
    *("accuracy", "accuracy_low", "accuracy_high"),
    *("metric", "score", "score_low", "score_high", "wire_bytes_mean", "bits_per_element"),
    *("messages", "wire_bytes_per_question"),
    *(f"{c}_{n}" for c in in_place_of_own() for n in ("score", "examples", "degenerate")),
    *("pairing_examples", "pairing_gain", "pairing_gain_low", "pairing_gain_high"),
    *("pairing_p_holm", "unparsed_share", "in_format_share"),
    *("donors", "deranged_other_length", "key_collisions", "own_rank_p_holm", "bits_per_byte"),
    *(f"{name}{end}" for name in CONTENT for end in ("", "_low", "_high", "_p_holm")),
    *("unanswered", "unanswered_reason"),
    *("top_letter", "top_letter_share", "degenerate"),
    *("bf16_difference", "bf16_difference_low", "bf16_difference_high"),
    *("margin_points", "non_inferior"),
)
_OF_A_RUN = (
    *("name", "milestone", "pair", "source", "started_ms", "ended_ms", "status", "host", "dtype"),
    *("commit", "answers", "run_id"),
)

_Group = tuple[str, str, str]  # pair, dataset, source


@dataclass
class _Table:
    """The questions of one set; answers of several pairs and sources go by it where keys agree."""

    dataset: str
    ids: dict[int, str] = field(default_factory=dict)  # by row of the split
    keys: dict[int, str] = field(default_factory=dict)
    prompts: dict[int, str] = field(default_factory=dict)

    def agrees(self, records: Iterable[Record]) -> bool:
        return all(
            self.keys.get(record.index, record.answer) == record.answer for record in records
        )

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.ids.setdefault(record.index, record.example_id)
            self.keys.setdefault(record.index, record.answer)


def matches(dataset: Dataset, records: Iterable[Record]) -> bool:
    """Whether a question set is the one that was answered: same places and same keys."""
    keys = {example.index: example.answer for example in dataset.examples}
    return all(keys.get(record.index) == record.answer for record in records)


def page_data(
    frame: pd.DataFrame,
    results: Sequence[ConditionResult],
    datasets: Mapping[str, Dataset],
    origins: Sequence[Origin],
    cautions: Sequence[str],
    sentences: Sequence[str],
    tracking_uri: str,
    created: str,
    regimes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The object that the page is made from, ready for JSON.

    Args:
        frame: the budget curve of `results`.
        results: what it was built from.
        datasets: question sets whose prompts are shown, by name; those that are missing have none.
        origins: the runs that computed the answers.
        cautions: sentences for the top of the page.
        sentences: what the numbers come to.
        tracking_uri: of the store, for links to runs where it is a server.
        created: date and time, as text.
        regimes: M14's maps of some of the pairs and question sets (`regimes_data`).
    """
    by_group: dict[_Group, list[ConditionResult]] = defaultdict(list)
    for result in results:
        by_group[result.family].append(result)
    worth = telling(frame)  # the page begins with the set on which most is to be seen
    by_group = dict(sorted(by_group.items(), key=lambda item: -worth.get(item[0], -1.0)))
    tables, place = _tables(by_group, datasets)
    coded = _Coded(tables)
    points = list(_points(frame, by_group, place, coded))
    return {
        "created": created,
        "cautions": list(cautions),
        "said": list(sentences),
        "runs": [_run(origin, tracking_uri) for origin in origins],
        "systems": {name: system.sends for name, system in SYSTEMS.items()},
        "controls": {name: control.title for name, control in CONTROLS.items()},
        "filters": [
            {"axis": name, "title": axis.title, "values": tuple(axis.allowed)}
            for name, axis in AXES.items()
            if axis.title
        ],
        "styles": codec_styles(frame.loc[frame["system"].isin(CACHES), "codec"]) | BASELINE_STYLES,
        "words": NAMES,
        "groups": list(_groups(frame, place, by_group)),
        "regimes": list(regimes),
        "points": points,
        "questions": [_questions(table) for table in tables],
        "answers": coded.answers,
        "texts": list(coded.texts),
        "donors": coded.donors,
    }


def _tables(
    by_group: Mapping[_Group, Sequence[ConditionResult]], datasets: Mapping[str, Dataset]
) -> tuple[list[_Table], dict[_Group, int]]:
    """The tables of questions, and which of them is each group's."""
    tables: list[_Table] = []
    place: dict[_Group, int] = {}
    # Local answers first: their ids are the question set's own, by which donors are named.
    for group, members in sorted(by_group.items(), key=lambda item: item[0][2]):
        records = [record for member in members for record in member.records]
        place[group] = _table_for(group[1], records, tables, datasets)
    return tables, place


def _groups(
    frame: pd.DataFrame, place: Mapping[_Group, int], groups: Iterable[_Group]
) -> Iterator[dict[str, Any]]:
    hashes = ("fuser_hash", "dataset_hash")
    known = {
        (row["pair"], row["dataset"], row["source"]): {name: _plain(row[name]) for name in hashes}
        for row in records(frame.drop_duplicates(FAMILY))
    }
    for group in groups:
        yield {
            **dict(zip(FAMILY, group, strict=True)),
            "note": demonstration_note(group[0]),
            "questions": place[group],
            **known[group],
        }


def _points(
    frame: pd.DataFrame,
    by_group: Mapping[_Group, Sequence[ConditionResult]],
    place: Mapping[_Group, int],
    coded: "_Coded",
) -> Iterator[dict[str, Any]]:
    """A row of the curve each, with its answers by control."""
    groups = list(by_group)
    parts = {group: _by_point(members) for group, members in by_group.items()}
    for row in frame.to_dict(orient="records"):
        group = (str(row["pair"]), str(row["dataset"]), str(row["source"]))
        yield {
            **{name: _plain(row[name]) for name in SHOWN},
            "group": groups.index(group),
            "no_gain": why_no_gain(row),
            "filters": _filtered(row),
            **_named(row),
            "answers": {
                control: coded.add(place[group], merged(control, members).values())
                for control, members in parts[group][_place(row)].items()
            },
        }


class _Coded:
    """Answers in columns; outputs and lists of donors that repeat are kept once."""

    def __init__(self, tables: Sequence[_Table]) -> None:
        self.texts: dict[str, int] = {}
        self.donors: list[list[int]] = []
        self.answers: list[dict[str, Any]] = []
        self._order = [sorted(table.keys) for table in tables]
        self._row = [{index: row for row, index in enumerate(order)} for order in self._order]
        self._by_id = [
            {table.ids[index]: row for row, index in enumerate(order)}
            for table, order in zip(tables, self._order, strict=True)
        ]
        self._known_donors: dict[tuple[int, ...], int] = {}

    def add(self, table: int, records: Iterable[Record]) -> int:
        """The place of one condition's answers."""
        count = len(self._order[table])
        letters, right = [NOT_ASKED] * count, [NOT_ASKED] * count
        texts, donors = [UNKNOWN] * count, [UNKNOWN] * count
        for record in records:
            row = self._row[table][record.index]
            letters[row] = record.predicted or UNPARSED
            right[row] = "1" if record.correct else "0"
            texts[row] = self.texts.setdefault(_text(record), len(self.texts))
            if record.donor_id is not None:
                donors[row] = self._by_id[table].get(record.donor_id, UNKNOWN)
        lent = None
        if any(donor != UNKNOWN for donor in donors):
            lent = self._known_donors.setdefault(tuple(donors), len(self.donors))
            if lent == len(self.donors):
                self.donors.append(donors)
        columns = {"letters": _column(letters), "right": _column(right)}
        self.answers.append({**columns, "texts": texts, "donors": lent})
        return len(self.answers) - 1


def _table_for(
    dataset: str, records: Sequence[Record], tables: list[_Table], datasets: Mapping[str, Dataset]
) -> int:
    """The place of the table that some records go by; a new one where no other agrees."""
    for place, table in enumerate(tables):
        if table.dataset == dataset and table.agrees(records):
            table.add(records)
            return place
    table = _Table(dataset)
    if dataset in datasets and matches(datasets[dataset], records):
        for example in datasets[dataset].examples:
            table.ids[example.index] = example.id
            table.keys[example.index] = example.answer
            table.prompts[example.index] = datasets[dataset].task.prompt_text(example)
    table.add(records)
    tables.append(table)
    return len(tables) - 1


def _questions(table: _Table) -> dict[str, Any]:
    order = sorted(table.keys)
    prompts = [table.prompts.get(index) for index in order]
    before = after = ""
    found = [prompt for prompt in prompts if prompt is not None]
    if len(found) > 1:  # whole lines that all prompts begin and end with stand once
        before = _shared_lines(found)
        after = _shared_lines([prompt[len(before) :][::-1] for prompt in found])[::-1]
    return {
        "dataset": table.dataset,
        "index": order,
        "ids": [table.ids[index] for index in order],
        "keys": _column([table.keys[index] for index in order]),
        "before": before,
        "after": after,
        "prompts": [
            None if prompt is None else prompt[len(before) : len(prompt) - len(after)]
            for prompt in prompts
        ]
        if found
        else None,
    }


def _column(cells: list[str]) -> str | list[str]:
    """Cells by place: as a string where each is one character, which is a third as long."""
    return "".join(cells) if all(len(cell) == 1 and cell.isascii() for cell in cells) else cells


def _shared_lines(texts: Sequence[str]) -> str:
    """The whole lines that all texts begin with."""
    low, high = min(texts), max(texts)  # all others lie between, so they begin alike too
    pairs = enumerate(zip(low, high, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(low), len(high)))
    return low[: low.rfind("\n", 0, same) + 1]


def _by_point(
    results: Iterable[ConditionResult],
) -> dict[tuple[object, ...], dict[str, list[ConditionResult]]]:
    """Point -> control -> results; a model alone has its answers as `matched`, like a row."""
    found: dict[tuple[object, ...], dict[str, list[ConditionResult]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for result in results:
        if result.donor not in (None, 1):
            continue  # a row shows the first donor's answers
        control = MATCHED if result.control == NONE else result.control
        found[result.place][control].append(result)
    return found


def _place(row: Mapping[Any, Any]) -> tuple[object, ...]:
    return tuple(_plain(row[name]) for name in PLACE_AXES)


def _run(origin: Origin, tracking_uri: str) -> dict[str, Any]:
    fields = asdict(origin)
    return {
        **{name: fields[name] for name in _OF_A_RUN},
        "device": ", ".join(dict.fromkeys(origin.gpus)) or origin.device,
        "url": run_url(tracking_uri, origin.experiment_id, origin.run_id),
    }


def _filtered(row: Mapping[Any, Any]) -> dict[str, str]:
    """A point's values on the axes that the page filters by; those that say nothing (which end of
    a whole cache) are left out. What is sent without a codec goes by its system."""
    names = [n for n in applying(row["system"]) if n in ROW_AXES and AXES[n].title]
    there = [n for n in names if not is_missing(row[n]) and AXES[n].label(row)]
    found = {"codec": row["system"]} | {n: str(row[n]) for n in there}
    return found if row["system"] in CACHES + ALONE else found | {"codec": baseline_key(row)}


def _named(row: Mapping[Any, Any]) -> dict[str, str]:
    """What a condition is called, and how much of a cache it keeps."""
    if row["system"] not in CACHES:
        return {"name": row_name(row), "kept": ""}
    kept = label(row, ("system", "codec", "control"))
    if kept == WHOLE:
        return {"name": f"{row['codec']}, whole cache", "kept": "all"}
    return {"name": f"{row['codec']}, {kept} kept", "kept": kept}


def _text(record: Record) -> str:
    """The receiver's output, and before it the message that it was sent; or why there is none."""
    if record.unanswered is not None:
        return f"[not answered: {record.unanswered}]"
    return f"[sent: {record.message}]\n{record.output}" if record.message else record.output


def _plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value
