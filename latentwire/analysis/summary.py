"""What a milestone found, for the page of its run: headline metrics, sentences and a table.

Every sentence is put together from columns of the budget curve, so from tests that stand in
`compare` and `stats`; where a number is missing, its sentence is left out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from latentwire.analysis import unanswered
from latentwire.analysis.answers import DEGENERATE_MARK, DEGENERATE_NOTE
from latentwire.analysis.curve import REFERENCE_CODEC
from latentwire.analysis.rivals import row_name
from latentwire.analysis.table import with_interval
from latentwire.analysis.units import human_bytes, percent

QUESTIONS = {
    "m0": "What do receiver, sharer and uncompressed C2C score, and does the content matter?",
    "baselines": "What do a text, a letter and four numbers score on the same axis of bytes?",
    "m2": "What does precision cost?",
    "m3": "What does cache length cost?",
    "m4": "What accuracy is left at how many bytes?",
    "main": "M0 to M4: what accuracy is left at how many bytes?",
    "published": "What did the published study measure?",
}
MOST_CHARACTERS = 7900  # MLflow cuts a note at 8000
VERDICTS = ("supported", "refuted", "undecided")
_HEAD = ("condition", "keep", "order", "n", "accuracy %", "bytes", "pairing gain", "vs 16 bits")


def headline(frame: pd.DataFrame) -> dict[str, float]:
    """The few metrics that a milestone's run shows: `DATASET/NAME`, see docs/mlflow.md.

    With several pairs or sources in the frame these stand before the dataset. Shares and bytes
    are those of the frame; what was not measured is left out.
    """
    found: dict[str, float] = {}
    for prefix, rows in _families(frame):
        own = {
            **_accuracies(rows),
            **_losses(rows),
            **{name: float(value) for name, value in _counts(rows).items()},
        }
        found |= {f"{prefix}/{name}": value for name, value in own.items() if pd.notna(value)}
    return found


def note(
    name: str,
    frame: pd.DataFrame,
    measured: pd.DataFrame,
    pictures: Sequence[str] = (),
    said: Sequence[str] = (),
) -> str:
    """The milestone's description in Markdown: sentences, the table, then pictures.

    Args:
        name: the milestone.
        frame: what it is judged by, with the conditions that it is compared with.
        measured: the rows of `frame` that the table shows.
        pictures: addresses of pictures.
        said: more sentences, below the others.
    """
    if measured.empty:
        return "No finished conditions yet."
    head = [f"**{QUESTIONS[name]}**"] if name in QUESTIONS else []
    several = len(list(_families(frame)))
    blocks = [
        " ".join([f"*{prefix}*:" if several > 1 else f"On {prefix}:", *_sentences(rows)])
        for prefix, rows in _families(frame)
    ]
    shown = [picture(place) for place in pictures]
    return assemble([*head, *blocks, *said], "\n".join(_table(measured)), shown)


def assemble(blocks: Sequence[str], table: str, pictures: Sequence[str]) -> str:
    """A description of blocks, a table and pictures; the table is cut to what MLflow keeps."""
    start, end = "\n\n".join([*blocks, ""]), "\n\n".join(["", *pictures])
    return start + cut(table, MOST_CHARACTERS - len(start) - len(end)) + end


def picture(address: str) -> str:
    """A picture in Markdown, titled by its file's name."""
    return f"![{address.rpartition('/')[2]}]({address})"


def cut(table: str, characters: int) -> str:
    """A table's first lines, as many as there is room for, and where the others are."""
    rest = "\n\nThe rest: table.txt"
    if len(table) <= characters:
        return table
    return table[: max(0, characters - len(rest))].rpartition("\n")[0] + rest


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, the first column to the left and the others right."""
    marks = [":--", *["--:"] * (len(head) - 1)]
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in (head, marks, *rows)
    ]


def metric_name(text: str) -> str:
    """Text without what MLflow refuses in the name of a metric."""
    return re.sub(r"[^\w.\- ]", "_", text, flags=re.ASCII)


def _families(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each pair, dataset and source of a frame, by the shortest name that tells it apart."""
    pairs, sources = frame["pair"].nunique() > 1, frame["source"].nunique() > 1
    for (pair, dataset, source), rows in frame.groupby(["pair", "dataset", "source"], sort=False):
        parts = [*([pair] if pairs else []), *([source] if sources else []), dataset]
        yield "/".join(metric_name(str(part)) for part in parts), rows


def _accuracies(rows: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in _records(rows[rows["system"] != "c2c"]):
        found[f"{metric_name(_name(row)).replace(' ', '_')}_accuracy"] = row["accuracy"]
    for row in _records(_reference(rows)):
        found["bf16_accuracy"] = row["accuracy"]
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
    compared = rows[rows["bf16_examples"] > 0]
    verdicts = {
        f"non_inferior_{verdict}": int((compared["non_inferior"] == verdict).sum())
        for verdict in VERDICTS
    }
    return {"examples": int(rows["examples"].max()), **({} if compared.empty else verdicts)}


def _reference(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[
        (rows["system"] == "c2c")
        & (rows["codec"] == REFERENCE_CODEC)
        & (rows["keep_ratio"] == 1)
        & rows["calibration"].isna()
    ]


def _sentences(rows: pd.DataFrame) -> Iterator[str]:
    least, most = rows["examples"].min(), rows["examples"].max()
    n = f"{least}" if least == most else f"{least} to {most}"
    yield f"{len(rows)} conditions, {n} questions each."
    alone = rows[rows["system"] != "c2c"]
    scores = [
        f"{_name(row)} {with_interval(row, 'accuracy', signed=False)}"
        for row in _records(pd.concat([alone, _reference(rows)]))
    ]
    if scores:
        yield f"Accuracy in %, with 95 % intervals: {'; '.join(scores)}."
    yield from _pairing_sentence(rows)
    yield from _loss_sentence(rows)
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
    row = _records(_reference(tested)) or _records(tested.loc[[tested["pairing_gain"].idxmax()]])
    yield (
        f"The pairing gain differs from zero in {len(shown)} of {len(tested)} conditions"
        f" ({above} above, {below} below; McNemar, Holm-corrected);"
        f" {_name(row[0])}: {with_interval(row[0], 'pairing_gain', signed=True)} points."
    )


def _loss_sentence(rows: pd.DataFrame) -> Iterator[str]:
    compared = rows[rows["bf16_examples"] > 0]
    if compared.empty:
        return
    worst = _records(compared.loc[[compared["bf16_difference"].idxmin()]])[0]
    counts = [f"{(compared['non_inferior'] == verdict).sum()} {verdict}" for verdict in VERDICTS]
    yield (
        f"Losing less than {compared['margin_points'].iloc[0]:g} points against 16 bits is"
        f" {', '.join(counts)} (of {len(compared)}, Holm-corrected); the lowest difference is"
        f" {with_interval(worst, 'bf16_difference', signed=True)} points ({_name(worst)})."
    )


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def _name(row: dict[str, Any]) -> str:
    """A condition in a few words: receiver, int8, int8 0.5 back."""
    if row["system"] != "c2c":
        return row_name(row).removesuffix(" alone")
    if row["keep_ratio"] == 1:
        return str(row["codec"])
    return f"{row['codec']} {row['keep_ratio']:g} {row['order']}"


def _table(frame: pd.DataFrame) -> Iterator[str]:
    for prefix, rows in _families(frame):
        yield f"\n{prefix}\n"
        yield from markdown_table(_HEAD, [_cells(row) for row in _records(rows)])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    n = f"{row['examples']}" + ("" if row["complete"] else f"/{row['examples_total']}")
    mark = DEGENERATE_MARK if row["degenerate"] else ""
    return (
        row["codec"] if row["system"] == "c2c" else _name(row),
        "-" if pd.isna(row["keep_ratio"]) else f"{row['keep_ratio']:g}",
        "-" if pd.isna(row["order"]) else row["order"],
        n,
        with_interval(row, "accuracy", signed=False, mark=mark),
        "-" if pd.isna(row["wire_bytes_mean"]) else human_bytes(row["wire_bytes_mean"]),
        with_interval(row, "pairing_gain", signed=True),
        percent(row["bf16_difference"], signed=True),
    )
