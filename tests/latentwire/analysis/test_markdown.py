from html import unescape

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nasty_names import NASTY

from c2c.errors import printable
from latentwire.analysis.markdown import escape, markdown_table, verbatim
from latentwire.printable import printable_lines

reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
pieces = st.sampled_from(
    [*"\\`*_[]<>|!&~()#+-.:/=\"'$", "](", "![", "http://", "&lt;", "www.", "~~"]
)
texts = st.lists(pieces | st.text(max_size=4), max_size=12).map("".join) | st.sampled_from(NASTY)


@given(texts)
def test_text_of_others_makes_no_markup(text: str) -> None:
    shown = reader.render(f"The pair x{escape(text)}x.").strip()
    assert shown.startswith("<p>") and shown.endswith("</p>")
    inside = shown[3:-4]
    assert "<" not in inside
    assert unescape(inside) == f"The pair x{printable(text)}x."


@given(st.lists(texts, min_size=1, max_size=4))
def test_a_cell_is_one_cell(cells: list[str]) -> None:
    table = markdown_table(["name"], [[f"x{escape(cell)}x"] for cell in cells])
    shown = reader.render("\n".join(table))
    assert shown.count("<td") == shown.count("<tr>") - 1 == len(cells)
    assert all(f">x{printable(cell)}x</td>" in unescape(shown) for cell in cells)


@given(texts)
def test_nothing_ends_a_fence(text: str) -> None:
    tokens = reader.parse(verbatim(text))
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content == printable_lines(text) + "\n"


def test_ordinary_names_stay() -> None:
    for name in ("demo_graded", "int4_group", "Qwen3-0.6B (Qwen2.5)", "int8 0.5 back", "kvtc0.5"):
        assert escape(name) == name
