"""Why rows of a budget curve have no pairing gain, in words: a control that was not run is one
thing, a control whose answers do not count another."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from latentwire.analysis.frames import records
from latentwire.errors import first_of
from latentwire.spec.axes import CACHES
from latentwire.spec.names import condition_name

NAMED = 4  # conditions that one sentence lists by name
NOT_RUN = "the deranged control was not run"
MORE = "with more questions, some may have an equal length"


def why_no_gain(row: Mapping[Any, Any]) -> str | None:
    """Why a row of the curve has no pairing gain, as a clause; None where it has one."""
    if row["pairing_examples"]:
        return None
    if not row["deranged_examples"]:
        return NOT_RUN
    asked = int(row["deranged_examples"]) * max(1, int(row["donors"]))
    other = int(row["deranged_other_length"])
    if other < asked:
        return (
            f"of {asked} answers to another question's message none counts for the pairing gain"
            f" ({other} because its prompt has another length)"
        )
    donors = "the only donor has a prompt" if asked == 1 else f"all {asked} donors have prompts"
    do = "its answer does" if asked == 1 else "their answers do"
    return f"{donors} of another length, so {do} not count for the pairing gain; {MORE}"


def part_counted(row: Mapping[Any, Any]) -> str | None:
    """Of how many questions a row's pairing gain is, as a clause, where not of all that the control
    was run on; None elsewhere."""
    counted, asked = int(row["pairing_examples"]), int(row["deranged_examples"])
    if not 0 < counted < asked:
        return None
    return (
        f"the pairing gain is of {counted} of {asked} questions, whose donors have prompts of the"
        " same length"
    )


def parts_counted(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """These clauses, each with its rows."""
    return _told(rows, part_counted)


def reasons(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The clauses of the rows without a pairing gain, each with its rows."""
    return _told(rows, why_no_gain)


def _told(
    rows: pd.DataFrame, clause: Callable[[Mapping[Any, Any]], str | None]
) -> dict[str, pd.DataFrame]:
    found: dict[str, list[int]] = {}
    for place, row in enumerate(records(rows)):
        if (said := clause(row)) is not None:
            found.setdefault(said, []).append(place)
    return {said: rows.iloc[places] for said, places in found.items()}


def uncounted_sentences(rows: pd.DataFrame) -> list[str]:
    """For tables and captions of one dataset: of which caches the deranged control was run, and
    why they have no pairing gain all the same, or one of some questions alone."""
    sent = rows[rows["system"].isin(CACHES)]
    said = []
    for why, found in reasons(sent).items():
        if why == NOT_RUN:
            continue
        of = "" if len(found) == len(sent) else f" of {_named(found)}"
        said.append(f"no pairing gain{of}: {why}")
    return said + [
        clause if len(found) == len(sent) else f"{clause} ({_named(found)})"
        for clause, found in parts_counted(sent).items()
    ]


def _named(rows: pd.DataFrame) -> str:
    return first_of([condition_name(row) for row in records(rows)], NAMED)


def no_gain_at_all(rows: pd.DataFrame) -> str:
    """Why none of some caches' rows has a pairing gain."""
    whys = list(reasons(rows[rows["system"].isin(CACHES)]))
    return f"no pairing gain: {'; '.join(whys)}"
