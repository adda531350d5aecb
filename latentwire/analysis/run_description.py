"""What a milestone found, for the page of its run: headline metrics, sentences and a table.

Every sentence is put together from columns of the budget curve, so from tests that stand in
`comparison_columns` and `stats`; where a number is missing, its sentence is left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from latentwire.analysis import unanswered
from latentwire.analysis.completeness import counts, gain_is_complete, loss_is_complete
from latentwire.analysis.curve import reference_rows
from latentwire.analysis.formatting import percent
from latentwire.analysis.frames import families, is_resampled, metric_of, records
from latentwire.analysis.letter_distribution import DEGENERATE_MARK, DEGENERATE_NOTE
from latentwire.analysis.markdown import assemble, escape, markdown_table, picture
from latentwire.analysis.pairing_told import uncounted_sentences
from latentwire.analysis.safe_names import metric_name, metric_names
from latentwire.analysis.table import curve_cells, with_interval
from latentwire.spec.axes import CACHES
from latentwire.spec.names import condition_name

QUESTIONS = {
    "m0": "What do receiver, sharer and uncompressed C2C score, and does the content matter?",
    "baselines": "What do a text, a letter and four numbers score on the same axis of bytes?",
    "m2": "What does precision cost?",
    "m3": "What does cache length cost?",
    "m7": "What do different tokenizers cost?",
    "m4": "What accuracy is left at how many bytes?",
    "main": "M0 to M4: what accuracy is left at how many bytes?",
    "published": "What did the published study measure?",
}
VERDICTS = ("supported", "refuted", "undecided")
_HEAD = ("condition", "keep", "order", "n", "{} %", "bytes", "pairing gain", "vs 16 bits")


def headline(frame: pd.DataFrame) -> dict[str, float]:
    """The few metrics that a milestone's run shows: `DATASET/NAME`, see docs/mlflow.md.

    With several pairs or sources in the frame these stand before the dataset. Shares and bytes
    are those of the frame's complete conditions; what was not measured is left out.
    """
    found = _best(frame)
    for prefix, rows in _families(frame):
        own = {
            **_accuracies(rows[rows["complete"]]),
            **_losses(rows[loss_is_complete(rows)]),
            **{name: float(value) for name, value in _counts(rows).items()},
        }
        found |= {f"{prefix}/{name}": value for name, value in own.items() if pd.notna(value)}
    return found


def _best(frame: pd.DataFrame) -> dict[str, float]:
    """`accuracy` and `wire_bytes_mean` of the best cache: the most accurate of the complete ones,
    at equal accuracy the one of fewest bytes. Means over question sets; nothing where one has none,
    or the frame has several pairs or sources."""
    if frame.empty or len(frame[["pair", "source"]].drop_duplicates()) > 1:
        return {}
    caches = frame[frame["complete"] & frame["system"].isin(CACHES)]
    ranked = caches.sort_values(["accuracy", "wire_bytes_mean"], ascending=[False, True])
    best = ranked.drop_duplicates("dataset")
    if set(best["dataset"]) != set(frame["dataset"]):
        return {}
    return {name: float(best[name].mean()) for name in ("accuracy", "wire_bytes_mean")}


def description(
    name: str,
    frame: pd.DataFrame,
    measured: pd.DataFrame,
    pictures: Sequence[str] = (),
    said: Sequence[str] = (),
) -> str:
    """The milestone's description in Markdown: sentences, those that are `said` (plain text), the
    table of what was `measured` (rows of `frame`, which has what it is compared with too), then the
    pictures at some addresses."""
    if measured.empty:
        return "No finished conditions yet."
    head = [f"**{QUESTIONS[name]}**"] if name in QUESTIONS else []
    several = len(list(_families(frame)))
    blocks = [
        " ".join(
            [f"*{escape(prefix)}*:" if several > 1 else f"On {escape(prefix)}:", *_sentences(rows)]
        )
        for prefix, rows in _families(frame)
    ]
    shown = [picture(place) for place in pictures]
    return assemble([*head, *blocks, *map(escape, said)], "\n".join(_table(measured)), shown)


def _families(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each pair, dataset and source of a frame, by the shortest name that tells it apart."""
    pairs, sources = frame["pair"].nunique() > 1, frame["source"].nunique() > 1
    found: dict[tuple[str, ...], pd.DataFrame] = {}
    for pair, dataset, source, rows in families(frame):
        found[*([pair] if pairs else []), *([source] if sources else []), dataset] = rows
    names = metric_names(found)
    return ((names[key], rows) for key, rows in found.items())


def _accuracies(rows: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    metric = metric_name(metric_of(rows)).replace(" ", "_")
    for row in records(rows[~rows["system"].isin(CACHES)]):
        found[f"{metric_name(_name(row)).replace(' ', '_')}_{metric}"] = row["score"]
    for row in records(reference_rows(rows)):
        found[f"bf16_{metric}"] = row["score"]
    for row in records(reference_rows(rows[gain_is_complete(rows)])):
        found["bf16_pairing_gain"] = row["pairing_gain"]
    return found


def _losses(rows: pd.DataFrame) -> dict[str, float]:
    compared = rows[rows["bf16_examples"] > 0]
    if compared.empty:
        return {}
    kept = compared.loc[compared["non_inferior"] == "supported", "wire_bytes_mean"]
    return {
        "bf16_difference_worst": float(compared["bf16_difference"].min()),
        "bf16_difference_best": float(compared["bf16_difference"].max()),
        "non_inferior_bytes_least": float(kept.min()),  # NaN without any
    }


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    whole = rows[loss_is_complete(rows)]
    compared = whole[whole["bf16_examples"] > 0]
    verdicts = {
        f"non_inferior_{verdict}": int((compared["non_inferior"] == verdict).sum())
        for verdict in VERDICTS
    }
    return {"examples": int(rows["examples"].max()), **({} if compared.empty else verdicts)}


def _sentences(rows: pd.DataFrame) -> Iterator[str]:
    """What the complete conditions come to; of others, how many there are."""
    whole, part = rows[rows["complete"]], rows[~rows["complete"]]
    total = rows["examples_total"].max()
    if whole.empty:
        yield (
            f"{len(rows)} conditions, {counts(part)} of {total} questions each: none is complete,"
            " so what they scored stands in the table alone."
        )
        return
    yield f"{len(whole)} conditions, {counts(whole)} questions each."
    if len(part):
        yield (
            f"{len(part)} more are incomplete ({counts(part)} of {total} questions): they stand in"
            " the table alone."
        )
    gained, compared = rows[gain_is_complete(rows)], rows[loss_is_complete(rows)]
    rows = whole
    alone = rows[~rows["system"].isin(CACHES)]
    scores = [
        f"{_shown(row)} {with_interval(row, 'score', signed=False)}"
        for row in records(pd.concat([alone, reference_rows(rows)]))
    ]
    if scores:
        title = metric_of(rows)
        yield f"{title[0].upper()}{title[1:]} in %, with 95 % intervals: {'; '.join(scores)}."
    yield from _pairing_sentence(gained)
    yield from (f"{escape(said[0].upper() + said[1:])}." for said in uncounted_sentences(rows))
    yield from _loss_sentence(compared)
    if rows["degenerate"].any():
        count = int(rows["degenerate"].sum())
        yield f"{count} marked {DEGENERATE_MARK}: the answer is {DEGENERATE_NOTE}."
    for sentence in unanswered.sentences(rows):
        yield f"{sentence}."


def _pairing_sentence(rows: pd.DataFrame) -> Iterator[str]:
    tested = rows[rows["pairing_p_holm"].notna()]
    if tested.empty:
        return
    shown = tested[tested["pairing_p_holm"] < 0.05]
    above, below = (shown["pairing_gain"] > 0).sum(), (shown["pairing_gain"] < 0).sum()
    test = "permutation test" if is_resampled(rows) else "McNemar"
    row = records(reference_rows(tested)) or records(tested.loc[[tested["pairing_gain"].idxmax()]])
    yield (
        f"The pairing gain differs from zero in {len(shown)} of {len(tested)} conditions"
        f" ({above} above, {below} below; {test}, Holm-corrected);"
        f" {_shown(row[0])}: {with_interval(row[0], 'pairing_gain', signed=True)} points."
    )


def _loss_sentence(rows: pd.DataFrame) -> Iterator[str]:
    compared = rows[rows["bf16_examples"] > 0]
    if compared.empty:
        return
    worst = records(compared.loc[[compared["bf16_difference"].idxmin()]])[0]
    counts = [f"{(compared['non_inferior'] == verdict).sum()} {verdict}" for verdict in VERDICTS]
    yield (
        f"Losing less than {compared['margin_points'].iloc[0]:g} points against 16 bits is"
        f" {', '.join(counts)} (of {len(compared)}, Holm-corrected); the lowest difference is"
        f" {with_interval(worst, 'bf16_difference', signed=True)} points ({_shown(worst)})."
    )


def _name(row: dict[str, Any]) -> str:
    """A condition in a few words: receiver, int8, int8 0.5 back."""
    return condition_name(row).removesuffix(" alone")


def _shown(row: dict[str, Any]) -> str:
    """The same in Markdown."""
    return escape(_name(row))


def _table(frame: pd.DataFrame) -> Iterator[str]:
    for prefix, rows in _families(frame):
        yield f"\n{escape(prefix)}\n"
        head = [name.format(escape(metric_of(rows))) for name in _HEAD]
        yield from markdown_table(head, [_cells(row) for row in records(rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    cells = curve_cells(row)
    return [*map(escape, cells[:3]), *cells[3:], percent(row["bf16_difference"], signed=True)]
