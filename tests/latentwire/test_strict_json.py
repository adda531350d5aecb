"""JSON that others have written: read as it stands, or refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.strict_json import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_json_comes_back(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("1e400", "'1e400' is too large"),
        ("9" * 5000, "digits"),
        ('{"a": ["\\ud800"]}', "half of a character"),
        ('{"\\uDC00": 1}', "half of a character"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_could_not_be_kept_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 200


def test_a_character_in_two_escaped_halves_is_one() -> None:
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"
