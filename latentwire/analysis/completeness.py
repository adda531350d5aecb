"""Which rows of a budget curve headlines may be made of, and what pictures say of the others.

A row is complete when every scored question of its dataset was answered (column `complete`). What
compares with a control or with 16 bits is complete when that too was asked for all of them. A
trial run of some questions is drawn and tabled beside the others, pale and with its n; crossings,
fronts, headline metrics and sentences about the best are made as if it were not there.
"""

import pandas as pd

from latentwire.analysis.formatting import percent
from latentwire.spec.names import condition_name

NAMED = 4  # incomplete conditions that a caption lists one by one


def gain_is_complete(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows answered all questions, with their own message and with another question's."""
    return frame["complete"] & (frame["deranged_examples"] >= frame["examples_total"])


def loss_is_complete(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are compared with 16 bits on all questions."""
    return frame["complete"] & (frame["bf16_examples"] >= frame["examples_total"])


def counts(rows: pd.DataFrame) -> str:
    """The questions of some rows: "500", or "20 to 500"; "0" of no rows."""
    if rows.empty:
        return "0"
    fewest, most = int(rows["examples"].min()), int(rows["examples"].max())
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def n_sentences(rows: pd.DataFrame, what: str) -> list[str]:
    """What n is in a picture of rows, and which of its points (or cells: `what`) are incomplete.

    Give it rows of one dataset that have an answer.
    """
    total = int(rows["examples_total"].max())
    whole, part = rows[rows["complete"]], rows[~rows["complete"]]
    lone = rows[rows["complete"] & (rows["deranged_examples"] > 0) & ~gain_is_complete(rows)]
    said = [
        f"n = {counts(part)} of {total} questions a {what}"
        if whole.empty
        else f"n = {counts(whole)} questions a {what}"
    ]
    if len(part):
        said.append(f"INCOMPLETE: {len(part)} of {len(rows)} {what}s, drawn pale{_named(part)}")
    if len(lone):
        names = _named(lone, "deranged_examples")
        said.append(f"INCOMPLETE: pairing gain of {len(lone)} {what}s, drawn pale{names}")
    return said


def lent_sentences(rows: pd.DataFrame) -> list[str]:
    """Of the rows that were asked with other questions' messages: how many donors each question
    had, and how many answers changed, whether to the better or not."""
    asked = rows[rows["influence"].notna()]
    if asked.empty:
        return []
    fewest, most = int(asked["donors"].min()), int(asked["donors"].max())
    donors = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    least, highest = (
        percent(each) for each in (asked["influence"].min(), asked["influence"].max())
    )
    changed = least if least == highest else f"{least} to {highest}"
    said = [f"Answers that change with another question's message: {changed} %."]
    return said if most == 1 else [f"Gains are means over {donors} donors a question.", *said]


def _named(rows: pd.DataFrame, column: str = "examples") -> str:
    """The conditions and their n in brackets; of many, n alone."""
    if len(rows) > NAMED:
        return f" (n = {counts(rows.assign(examples=rows[column]))})"
    names = [f"{condition_name(row)}: n = {row[column]}" for row in rows.to_dict("records")]
    return f" ({', '.join(names)})"
