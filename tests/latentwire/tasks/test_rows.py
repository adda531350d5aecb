"""Files of JSON lines and the hub."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.errors import LatentWireError
from latentwire.tasks.rows import HubSplit, read_hub_rows, read_json_lines

pytestmark = pytest.mark.usefixtures("hub_answers")

HUB = HubSplit("some/set", "main", "test", "some/test.jsonl")


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers())))
def test_lines_come_back_with_their_places(
    tmp_path_factory: pytest.TempPathFactory, values: list[object]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    expected = [(f"{path}, line {i}", value) for i, value in enumerate(values, start=1)]
    assert read_json_lines(path) == expected


def test_other_line_separators_stay_inside_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "one\u2028two\x85three"}\r\n{"a": "last"}', encoding="utf-8", newline="")
    assert [row for _, row in read_json_lines(path)] == [
        {"a": "one\u2028two\x85three"},
        {"a": "last"},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "\xff"}', "not UTF-8 at byte 8"),
        (b'{"a": ', "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
    ],
)
def test_malformed_line_is_named_by_file_and_line(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n{}\n")
    with pytest.raises(LatentWireError) as caught:
        read_json_lines(path)
    assert str(caught.value).startswith(f"{path}, line 2: {message}")


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_explained(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.jsonl"
    path.write_bytes(data)
    try:
        rows = read_json_lines(path)
    except LatentWireError as error:
        assert str(path) in str(error)
    else:
        text = path.read_text(encoding="utf-16" if data[:1] in (b"\xff", b"\xfe") else "utf-8-sig")
        assert len(rows) == len(text.rstrip().split("\n")) - (not text.strip())


@pytest.mark.parametrize("folder", [True, False])
def test_unreadable_file_is_named(tmp_path: Path, folder: bool) -> None:
    path = tmp_path if folder else tmp_path / "none.jsonl"
    with pytest.raises(LatentWireError, match=r"be read \((it is a folder|No such)") as caught:
        read_json_lines(path)
    assert str(path) in str(caught.value)


def test_hub_rows_carry_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*args: str, **options: str) -> datasets.Dataset:
        asked.append((args, options))
        return datasets.Dataset.from_list([{"id": "x", "choices": {"text": ["a"], "label": ["A"]}}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_hub_rows(HUB) == [
        ("some/set (main, test), row 0", {"id": "x", "choices": {"text": ["a"], "label": ["A"]}})
    ]
    assert asked == [(("some/set", "main"), {"split": "test"})]


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), ValueError(), KeyError("x")])
def test_hub_failure_is_one_sentence_with_a_way_round(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(*args: str, **options: str) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(LatentWireError) as caught:
        HUB.read(None)
    text = str(caught.value)
    assert text.startswith("some/set (main, test) could not be had")
    assert text.endswith("give data_dir, a folder that holds some/test.jsonl")
    assert "\n" not in text


def test_folder_is_read_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the hub"))
    (tmp_path / "x.jsonl").write_text("{}\n")
    path = tmp_path / "x.jsonl"
    assert replace(HUB, file="x.jsonl").read(tmp_path) == ([(f"{path}, line 1", {})], str(path))


def test_files_of_other_editors_are_the_same_rows(tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(n), "text": "é\u2028"}, ensure_ascii=False) for n in range(3)]
    path, plain = tmp_path / "x.jsonl", None
    for end in ("\n", "\r\n"):
        for rest in ("", end, end * 3, f"{end} \t{end}"):
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
                path.write_text(end.join(lines) + rest, encoding=encoding, newline="")
                plain = plain or read_json_lines(path)
                assert read_json_lines(path) == plain
    assert plain and len(plain) == 3


@pytest.mark.parametrize(
    "line", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e400}', '{"a": "\\ud800"}', "9" * 5000]
)
def test_what_could_not_be_kept_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(LatentWireError, match=r"x\.jsonl, line 2: not JSON \(") as caught:
        read_json_lines(path)
    assert len(str(caught.value)) < 400
