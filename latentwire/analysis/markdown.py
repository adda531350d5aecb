"""Descriptions of runs in Markdown, as MLflow's pages show them."""

import html
import re
from collections.abc import Sequence

from c2c.errors import printable
from latentwire.printable import printable_lines

MOST_CHARACTERS = 7900  # MLflow cuts a note at 8000
# What can begin markup wherever it stands, an underscore that is not inside a word, and what makes
# a bare address a link.
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")


def escape(text: str) -> str:
    """Text of others that makes no markup: no link, picture, code, tag, table cell or emphasis.

    It must not begin a line, where a number, a `#` or a dash has a meaning too.
    """
    # As entities, since not every reader of Markdown takes a backslash before `<`.
    return html.escape(_MARKUP.sub(lambda found: f"\\{found[0]}", printable(text)), quote=False)


def verbatim(text: str) -> str:
    """Text as it stands, line by line, in a fence that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable_lines(text)}\n{fence}"


def assemble(blocks: Sequence[str], table: str, pictures: Sequence[str]) -> str:
    """A description of blocks, a table and pictures; the table is cut to what MLflow keeps."""
    start, end = "\n\n".join([*blocks, ""]), "\n\n".join(["", *pictures])
    return start + cut(table, MOST_CHARACTERS - len(start) - len(end)) + end


def picture(address: str) -> str:
    """A picture in Markdown, titled by its file's name."""
    return f"![{escape(address.rpartition('/')[2])}]({address})"


def cut(table: str, characters: int) -> str:
    """A table's first lines, as many as there is room for, and where the others are."""
    rest = "\n\nThe rest: table.txt"
    if len(table) <= characters:
        return table
    return table[: max(0, characters - len(rest))].rpartition("\n")[0] + rest


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, the first column to the left and the others right; cells
    are Markdown."""
    marks = [":--", *["--:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, marks, *rows)]
