"""What a budget curve comes to: one sentence a question set, for whoever reads nothing else.

Every number stands in the curve, with the tests of `comparison_columns`; nothing is computed here.
"""

from collections.abc import Iterator

import pandas as pd

from latentwire.analysis.completeness import counts, gain_is_complete, loss_is_complete
from latentwire.analysis.curve import reference_rows
from latentwire.analysis.formatting import percent
from latentwire.analysis.frames import families, metric_of, published_note, records, whole_caches
from latentwire.analysis.letter_distribution import DEGENERATE_MARK
from latentwire.analysis.pairing_told import why_no_gain
from latentwire.analysis.pareto import pareto_front
from latentwire.analysis.table import with_interval
from latentwire.spec.names import condition_name

MOST_CODECS = 4  # that one sentence tells of
ABOUT = 0.02  # how far from a half or a quarter of the bytes is still called so
SHARES = {0.5: "half the bytes", 0.25: "a quarter of the bytes"}


def findings(frame: pd.DataFrame) -> list[str]:
    """A sentence for each pair, dataset and source of a `curve.build_curve`.

    It says what the whole cache in 16 bits and each model alone score, what fewer bits cost against
    it (paired differences with the 95 % intervals of `bf16_difference`), and what another
    question's cache scores. Only complete conditions are told of; of others, how many there are
    and their n. Of more than MOST_CODECS codecs, those that no other beats in bytes and in score,
    the first of them by bytes. The most telling sets come first.
    """
    said = {
        (pair, dataset, source): f"{dataset}, {pair}{published_note(source)}:"
        f" {'; '.join(_parts(rows))}."
        for pair, dataset, source, rows in families(frame)
    }
    worth = telling(frame)
    return [said[family] for family in sorted(said, key=lambda family: -worth[family])]


def telling(frame: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """How far apart whole caches score by codec, by family: on questions that all codecs answer
    alike, well or badly, nobody sees what bytes are worth. -1 where no cache is complete."""

    def spread(rows: pd.DataFrame) -> float:
        scores = whole_caches(rows[rows["complete"]])["score"]
        return float(scores.max() - scores.min()) if len(scores) else -1.0

    return {
        (pair, dataset, source): spread(rows) for pair, dataset, source, rows in families(frame)
    }


def _parts(rows: pd.DataFrame) -> Iterator[str]:
    whole = rows[rows["complete"]]
    reference = reference_rows(whole).head(1)  # of several alignments
    if len(reference):
        yield f"of {counts(reference)} questions, {_scores(whole, reference)}"
        yield from _losses(rows, reference)
        yield _control(reference)
    else:
        total = rows["examples_total"].max()
        yield f"no whole cache in 16 bits (m0) has answered all {total} questions"
    part = rows[~rows["complete"]]
    if len(part):
        what = "condition is" if len(part) == 1 else "conditions are"
        yield f"{len(part)} {what} incomplete and not counted (n = {counts(part)})"


def _scores(rows: pd.DataFrame, reference: pd.DataFrame) -> str:
    (own,) = records(reference)
    mark = DEGENERATE_MARK if own["degenerate"] else ""
    scored = f"{with_interval(own, 'score', signed=False, mark=mark)} %"
    what = "right" if metric_of(rows) == "accuracy" else metric_of(rows)
    alone = [
        f"{condition_name(row)} {percent(row['score'])}"
        for row in records(rows[rows["system"].isin(("receiver", "sharer"))])
    ]
    beside = f" ({', '.join(alone)})" if alone else ""
    return f"the cache in 16 bits gets {scored} {what}{beside}"


def _losses(rows: pd.DataFrame, reference: pd.DataFrame) -> Iterator[str]:
    """What each codec of a whole cache sends and loses."""
    (own,) = records(reference)
    compared = whole_caches(rows[loss_is_complete(rows) & (rows["bf16_examples"] > 0)])
    compared = compared[compared["wire_bytes_mean"] < own["wire_bytes_mean"]]
    compared = compared.sort_values("wire_bytes_mean", ascending=False, kind="stable")
    every = len(compared)
    if every > MOST_CODECS:
        points = compared[["wire_bytes_mean", "score"]].itertuples(index=False, name=None)
        front = sorted(pareto_front(list(points)))
        compared = compared.iloc[front]
    for row in records(compared.head(MOST_CODECS)):
        sent = _share(row["wire_bytes_mean"] / own["wire_bytes_mean"])
        lost = with_interval(row, "bf16_difference", signed=True)
        yield f"{condition_name(row)}: {sent}, {lost} points"
    if more := every - min(len(compared), MOST_CODECS):
        yield f"{more} more codec{'s' if more > 1 else ''}: see the table"


def _share(share: float) -> str:
    """A share of the bytes in words."""
    near = min(SHARES, key=lambda value: abs(value - share))
    return SHARES[near] if abs(near - share) <= ABOUT else f"{100 * share:.2g} % of the bytes"


def _control(reference: pd.DataFrame) -> str:
    (row,) = records(reference)
    if not gain_is_complete(reference).all():
        asked = row["deranged_examples"]
        return (
            f"what another question's cache scores is known of {asked} questions only"
            if asked
            else "what another question's cache scores was not measured"
        )
    mark = DEGENERATE_MARK if row["deranged_degenerate"] else ""
    but = f", but {why}" if (why := why_no_gain(row)) else ""
    return f"another question's cache scores {percent(row['deranged_score'])}{mark}{but}"
