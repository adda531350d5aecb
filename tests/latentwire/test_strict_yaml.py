"""YAML files that people write, and that somebody has written to do harm."""

import time
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.strict_yaml import StrictMapping, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]\n",
        "[" * 5000,
        "{a: " * 5000,
        "a: " + "[" * 400 + "]" * 400 + ": 1\nb" * 3,
        "\0",
        "a: \x1b",
        "- ? - ? -",
        "a" * (2**20 + 1),
    ],
)
def test_harm_is_one_short_sentence_at_once(tmp_path: Path, text: str, typed: bool) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(LatentWireError) as caught:
        read_yaml(path, typed)
    assert time.monotonic() - began < 5
    said = str(caught.value)
    assert said.startswith(str(path)) and said.isprintable() and len(said) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [true]",
        "!!python/name:os.system x",
        "!!timestamp [1]",
        "!!int x",
        "!!float []",
        "!!set [1]",
        "!!binary é",
        "2020-13-45",
        "9" * 5000,
        "1:" * 3000 + "1",
        "? {a: 1}\n: 2",
    ],
)
def test_odd_tags_and_numbers_are_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"name: {text}\n" if not text.startswith("?") else text, encoding="utf-8")
    with pytest.raises(LatentWireError) as caught:
        StrictMapping(read_yaml(path), path, "").text("name")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("no", "bool False: put it in quotes"),
        ("2026-01-02", "date datetime.date(2026, 1, 2): put it in quotes"),
        ("0777", "int 511: put it in quotes"),
        ("[1, 2, 3, 4, 5, 6, 7, 8]", "list [1, 2, 3, 4, 5, 6, ...]"),
        ("0x" + "f" * 6000, "int (too long to be shown): put it in quotes"),
        ("~", "nothing"),
    ],
)
def test_a_value_that_is_no_text_is_quoted_and_short(tmp_path: Path, text: str, got: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"name: {text}\n")
    with pytest.raises(LatentWireError) as caught:
        StrictMapping(read_yaml(path), path, "").text("name")
    assert str(caught.value) == f"{path}: key 'name' must be text, got {got}"


@pytest.mark.parametrize("text", ["1" * 400, "-" + "9" * 400, "0x" + "f" * 6000, ".inf", ".nan"])
def test_a_number_must_be_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"name: {text}\n")
    for take in (StrictMapping.number, StrictMapping.count):
        with pytest.raises(LatentWireError, match=r"'name' must be a (whole )?number"):
            take(StrictMapping(read_yaml(path), path, ""), "name")


def test_unknown_keys_are_named_shortly_and_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    keys = [f'? "\\e[31m{number}{"x" * 500}"' for number in range(50)] + ["? 0x" + "f" * 6000]
    path.write_text("".join(f"{key}\n: 1\n" for key in keys))
    with pytest.raises(LatentWireError, match="unknown key") as caught:
        StrictMapping(read_yaml(path), path, "").finish()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_an_alias_of_little_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_and_line_ends_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("name: é\r\nother: 1\r\n\r\n", encoding=encoding, newline="")
    assert read_yaml(path) == {"name": "é", "other": 1}
