"""What a reader has to know before believing a curve, in sentences."""

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from latentwire.analysis import unanswered
from latentwire.analysis.frames import families, published_note, records
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE
from latentwire.analysis.pairing_told import parts_counted, reasons
from latentwire.analysis.table import endless_rows
from latentwire.errors import first_of
from latentwire.spec.axes import CACHES
from latentwire.spec.names import condition_name

NAMED = 4  # conditions that one sentence lists by name
SHOWN = 0.05  # corrected p below which a gain is taken as shown
MUCH_UNPARSED = 0.05
UNKNOWN = ": it is not known whether the question's own cache was of any benefit over another's"


def warning_sentences(
    frame: pd.DataFrame,
    identities: Mapping[str, int],
    without_prompts: Iterable[str] = (),
    disagreeing: Iterable[str] = (),
) -> list[str]:
    """The warnings of a budget curve, those about the whole store first.

    `identities` says of how many identities of a pair the store has answers. Question sets
    `without_prompts` could not be read, each with the reason; those `disagreeing` are at hand, and
    not those that were answered.
    """
    said = [
        f"The store has answers of {count} identities of {pair} (other model files, dtype or"
        " evaluation version); only the newest is drawn."
        for pair, count in identities.items()
        if count > 1
    ]
    for pair, dataset, source, rows in families(frame):
        published = published_note(source)
        subject = f"{dataset}, {pair}{published}"
        said += [f"{subject}: {sentence}" for sentence in _of_family(rows)]
        said += [f"{sentence} ({pair}{published})" for sentence in unanswered.sentences(rows)]
    said += [f"No prompts of {reason}." for reason in without_prompts]
    said += [
        f"The question set {name} at hand is not the one that was answered (ids or keys differ):"
        " its prompts are left out."
        for name in disagreeing
    ]
    return said


def _of_family(rows: pd.DataFrame) -> Iterator[str]:
    sent = rows[rows["system"].isin(CACHES)]
    undecided = sent[(sent["non_inferior"] == "undecided").fillna(False)]
    margin = f"{undecided['margin_points'].max():g} (percentage points)"
    warned = (
        (
            rows[rows["degenerate"]],
            f"the answer is {DEGENERATE_NOTE}; such an accuracy says little",
        ),
        *((found, f"{why}{UNKNOWN}") for why, found in reasons(sent).items()),
        *((found, clause) for clause, found in parts_counted(sent).items()),
        (
            sent[sent["pairing_p_holm"] >= SHOWN],
            f"no pairing gain is shown (corrected p of at least {SHOWN:g}); the question's own"
            " cache may be worth no more than another's",
        ),
        (
            undecided,
            f"undecided whether the loss against 16 bits is below the margin of {margin}"
            f"{_what_would_decide(undecided)}",
        ),
        (rows[~rows["complete"]], "not all questions are answered yet"),
    )
    yield from (f"{_names(found)}: {said}." for found, said in warned if len(found))
    yield from (f"{sentence}." for sentence in endless_rows(rows))
    unparsed = rows[rows["unparsed_share"] > MUCH_UNPARSED]
    if len(unparsed):
        share = f"{100 * MUCH_UNPARSED:g} %"
        yield f"{_names(unparsed)}: more than {share} of the outputs yield no letter."


def _what_would_decide(undecided: pd.DataFrame) -> str:
    """How many questions; fewer than were asked would do only without the other conditions."""
    needed = undecided["questions_needed"].dropna()
    if needed.empty:
        return ""
    if needed.max() > undecided["examples"].max():
        return f", up to {int(needed.max()):,} questions would decide"
    return "; each alone would be decided, together their p-values are corrected"


def _names(rows: pd.DataFrame) -> str:
    return first_of([condition_name(row) for row in records(rows)], NAMED)
