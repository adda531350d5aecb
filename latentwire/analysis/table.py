"""The budget curve as a table for the terminal, at most 100 columns wide."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from c2c.errors import printable
from latentwire.analysis import unanswered
from latentwire.analysis.commonest_key import commonest_key
from latentwire.analysis.formatting import human_bytes, interval, percent
from latentwire.analysis.frames import families, metric_of, published_note, records
from latentwire.analysis.letter_distribution import DEGENERATE_MARK, DEGENERATE_NOTE, endless
from latentwire.analysis.pairing_told import uncounted_sentences
from latentwire.errors import first_of
from latentwire.spec.axes import CACHES, TEXTS
from latentwire.spec.names import budget_label, condition_name, row_name, short_codec
from latentwire.tasks.registry import task_of_records

WIDTH = 100
NAMED = 4  # conditions that one sentence lists by name
_BYTES = 5  # the column of bytes, behind the name's
_Told = tuple[dict[str, Any], list[str]]  # a row of the curve, and its cells
_OF_DERANGED = {
    "deranged": "score in % with another question's message",
    "changed": "answers in % that are others with it",
}
_NAME, _LONG_WORD = 8, 14  # columns of a terminal that names have at least, and their words at most


def curve_table(frame: pd.DataFrame) -> Group:
    """The table of `curve.build_curve`, to be printed by rich: one part a pair and dataset.

    Accuracies are per cent, gains percentage points, both with 95 % intervals in brackets; bytes
    are the mean a question got, and where questions share a message, `shared` is what that comes to
    for each. Changed is the influence: the share of answers that are others with another question's
    message. It and the deranged score are left out where nothing was measured, it where there is no
    room too. "-" is: not measured, or does not apply. A mark stands behind the accuracy, own or
    deranged, of a condition that answers nearly always with one letter. Below stands which
    conditions have questions that could not be answered, and why.
    """
    if frame.empty:
        return Group(Text("No finished conditions yet."))
    shorter = {name: short_codec(name) for name in dict.fromkeys(frame["codec"].dropna())}
    shorter = {name: short for name, short in shorter.items() if short != name}
    frame = frame.assign(codec=frame["codec"].map(lambda name: shorter.get(name, name)))
    made = [
        _part(f"{dataset}, {pair}{published_note(source)}", rows)
        for pair, dataset, source, rows in families(_printable(frame))
    ]
    parts: list[Table | Text] = list(made)
    if frame[["degenerate", "deranged_degenerate"]].any(axis=None):
        parts.append(Text(f"{DEGENERATE_MARK} the answer is {DEGENERATE_NOTE}"))
    for name, rows in frame.groupby("dataset", sort=False):
        parts += [Text(f"{name}, {sentence}") for sentence in endless_rows(rows)]
    for pair, name, _, rows in families(_printable(frame)):
        parts += [Text(f"{name}, {pair}: {sentence}") for sentence in uncounted_sentences(rows)]
    heads = {column.header for part in made for column in part.columns}
    parts += [Text(f"{head}: {said}") for head, said in _OF_DERANGED.items() if head in heads]
    if shares_messages(frame):
        parts.append(
            Text("shared: bytes of all messages / questions, of which some got the same one")
        )
    if not frame["complete"].all():
        parts.append(Text("* incomplete: questions answered / questions of the dataset"))
    parts += [Text(sentence) for sentence in unanswered.sentences(frame)]
    parts += [Text(printable(f"{short}: {name}")) for name, short in shorter.items()]
    return Group(*parts)


def endless_rows(frame: pd.DataFrame) -> list[str]:
    """A sentence for the rows of a dataset whose answers (nearly) all ran to the limit, if any."""
    found = [
        row
        for row in records(frame)
        if endless(row["at_limit"], row["examples"], task_of_records(row["dataset"]))
    ]
    if not found:
        return []
    said = endless(
        sum(row["at_limit"] for row in found),
        sum(row["examples"] for row in found),
        task_of_records(found[0]["dataset"]),
    )
    names = list(dict.fromkeys(condition_name(row) for row in found))
    return [f"{first_of(names, NAMED)}: {said}"]


def render_table(frame: pd.DataFrame) -> str:
    """`curve_table` as plain text without colours, for log files."""
    return plain_text([curve_table(frame)], WIDTH)


def plain_text(parts: Iterable[RenderableType], width: int) -> str:
    """What rich would print of some parts, one below the other, without colours."""
    file = StringIO()
    # Names of others stand in tables: nothing in them is a style, a link or a picture.
    console = Console(
        file=file,
        width=width,
        color_system=None,
        force_terminal=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    for part in parts:
        console.print(part)
    # Cells are padded to the column's width, and nobody wants trailing blanks in a log.
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().split("\n")[:-1])


def _printable(frame: pd.DataFrame) -> pd.DataFrame:
    """A table in which no text acts on a terminal."""
    names = ("pair", "dataset", "codec", "order")
    return frame.assign(**{n: frame[n].map(printable, na_action="ignore") for n in names})


def titled_table(title: str, caption: str | None = None) -> Table:
    """An empty table in the look that all tables for the terminal share."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=caption,
        caption_justify="left",
    )


def _part(title: str, rows: pd.DataFrame) -> Table:
    table = titled_table(title, _caption(rows))
    told = _folded([(row, curve_cells(row)) for row in records(rows)])
    score = f"{metric_of(rows)} %"
    shared = shares_messages(rows)
    heads = ["", "keep", "order", "n", score, "bytes", "pairing gain", *_OF_DERANGED]
    if shared:
        heads.insert(_BYTES + 1, "shared")
    lines = []
    for row, cells in told:
        cells[3] += "" if row["complete"] else "*"
        if shared:
            cells.insert(_BYTES + 1, _bytes(row["wire_bytes_per_question"]))
        deranged = percent(row["deranged_score"]) + _mark(row["deranged_degenerate"])
        lines.append([*cells, deranged, percent(row["influence"])])
    # Where not all has room side by side, what changed is left to the CSV file and the report, and
    # then intervals go below their values; no number is cut, and no heading.
    for column in ("influence", "deranged_score"):  # from the right
        if rows[column].isna().all():
            heads.pop()
            lines = [cells[:-1] for cells in lines]
    if heads[-1] == "changed" and _room(heads, lines) > WIDTH:
        heads.pop()
        lines = [cells[:-1] for cells in lines]
    folds = (score, "pairing gain") if _room(heads, lines) > WIDTH else ()
    widths = [
        _half([*head.split(), *column]) if head in folds else max(map(len, (head, *column)))
        for head, column in zip(heads[1:], list(zip(*lines, strict=True))[1:], strict=True)
    ]
    names = [cells[0] for cells in lines]
    free = WIDTH - 3 - sum(width + 2 for width in widths)
    # Long names are folded rather than cut: a cut name could be another condition's.
    words = max(min(len(word), _LONG_WORD) for name in names for word in name.split())
    wide = max(words, min(free, max(map(len, names))))
    table.add_column("", overflow="fold", width=wide)
    for head, width in zip(heads[1:], widths, strict=True):
        look: dict[str, Any] = {"justify": "left" if head == "order" else "right"}
        table.add_column(head, no_wrap=head not in folds, width=width, **look)
    for cells in lines:
        table.add_row(*cells)
    return table


def _half(column: Sequence[str]) -> int:
    """The columns of a terminal that values take whose intervals' last ends go below them."""
    return max(len(part) for cell in column for part in (cell.rpartition(" ")[0], cell.split()[-1]))


def _room(heads: Sequence[str], lines: list[list[str]]) -> int:
    """The columns of a terminal that cells take side by side, names folded."""
    names, *others = zip(*lines, strict=True)
    sides = zip(heads[1:], others, strict=True)
    return _narrowest(names) + 3 + sum(max(map(len, (head, *cells))) + 2 for head, cells in sides)


def _narrowest(names: Sequence[str]) -> int:
    """The columns that names are folded into at most: into two lines, and whole words, where they
    are not long."""

    def fits(name: str, width: int) -> bool:
        return len(textwrap.wrap(name, width, break_long_words=False)) <= 2 and (
            max(map(len, name.split())) <= width
        )

    widths = range(_NAME, _LONG_WORD)
    wide = (next((w for w in widths if fits(name, w)), _LONG_WORD) for name in names)
    return min(max(map(len, names)), max(wide))


def _folded(told: list[_Told]) -> list[_Told]:
    """Rows and their cells, texts that differ in nothing but their most tokens as one row: short
    texts end before any of the limits."""
    alike: dict[tuple[Any, ...], list[_Told]] = {}
    for place, (row, cells) in enumerate(told):
        lent = percent(row["deranged_score"]), percent(row["influence"])
        shown = (*cells[1:], *lent, row["deranged_degenerate"])
        key = (row["system"], row["codec"], *shown) if row["system"] in TEXTS else (place,)
        alike.setdefault(key, []).append((row, cells))
    return [group[0] if len(group) == 1 else _as_one(group) for group in alike.values()]


def _as_one(group: list[_Told]) -> _Told:
    row, cells = group[0]
    tokens = sorted(int(each["message_tokens"]) for each, _ in group)
    several = {**row, "message_tokens": f"{tokens[0]} to {tokens[-1]}"}
    return row, [row_name(several), *cells[1:]]


def curve_cells(row: Mapping[str, Any]) -> list[str]:
    """What tables of a curve begin with: condition, keep ratio, order, n, accuracy, bytes, pairing
    gain; the first three may hold text of others."""
    n = f"{row['examples']}" + ("" if row["complete"] else f"/{row['examples_total']}")
    return [
        row["codec"] if row["system"] in CACHES else row_name(row).removesuffix(" alone"),
        "-" if pd.isna(row["keep_ratio"]) else f"{row['keep_ratio']:g}",
        "-" if pd.isna(row["order"]) else f"{row['order']} {budget_label(row)}".rstrip(),
        n,
        with_interval(row, "score", signed=False, mark=_mark(row["degenerate"])),
        _bytes(row["wire_bytes_mean"]),
        with_interval(row, "pairing_gain", signed=True),
    ]


def shares_messages(frame: pd.DataFrame) -> bool:
    """Whether any question got a message that another one got too."""
    return bool((frame["wire_bytes_per_question"] < frame["wire_bytes_mean"]).any())


def _bytes(count: float) -> str:
    return "-" if pd.isna(count) else human_bytes(count)


def _caption(rows: pd.DataFrame) -> str | None:
    """The baseline that needs no model: what the spread of the keys alone would score."""
    prior = commonest_key(rows)
    return f"{prior}\n" if prior else None


def _mark(degenerate: bool) -> str:
    return DEGENERATE_MARK if degenerate else ""


def with_interval(row: Mapping[Any, Any], name: str, *, signed: bool, mark: str = "") -> str:
    """A row's value and interval (`name`, `name`_low, `name`_high) in per cent; "-" for none."""
    if pd.isna(row[name]):
        return "-"
    ends = interval(row[f"{name}_low"], row[f"{name}_high"], signed=signed)
    return f"{percent(row[name], signed=signed)}{mark} {ends}"
