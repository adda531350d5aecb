import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.analysis.report.page import embedded, render, write_report

texts = st.text() | st.sampled_from(
    ["</script>", "<!--", "]]>", "{data}", "{script}", "&lt;/script&gt;", "\u2028", "</SCRIPT "]
)


class Page(HTMLParser):
    """Tags, and the text of scripts and styles, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inside.append((self.tags[-1][0], data))


def read(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    return parser


@given(st.dictionaries(texts, texts | st.floats(allow_nan=False, allow_infinity=False)))
def test_data_comes_back_and_cannot_end_its_block(content: dict[str, Any]) -> None:
    text = embedded(content)
    assert text.isascii() and not set(text) & set("<>&")
    assert json.loads(text) == content
    found = read(render(content))
    assert [tag for tag, _ in found.inside] == ["style", "script", "script"]
    assert json.loads(found.inside[1][1]) == content


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        embedded({"a": float("nan")})


def test_only_its_own_script_and_style_may_run_and_nothing_is_loaded() -> None:
    page = read(render({}))
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy and policy.startswith("default-src 'none';")
    (style,), (_, script) = (
        [text for tag, text in page.inside if tag == wanted] for wanted in ("style", "script")
    )
    for name, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") in ("data:,", "#h-curve")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", style + script)


def test_the_script_makes_no_markup_of_text() -> None:
    script = read(render({})).inside[-1][1]
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in script


def test_the_file_is_written_in_one_step(tmp_path: Path) -> None:
    path = write_report({"a": 1}, tmp_path)
    assert path.name == "report.html" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_report({"a": object()}, tmp_path)
    assert '{"a":1}' in path.read_text()
