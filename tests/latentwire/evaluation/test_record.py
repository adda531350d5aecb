import json
from dataclasses import replace
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, read_records, record_lines

RECORD = Record(
    example_id="7-980",
    index=3,
    answer="B",
    predicted="B",
    correct=True,
    prompt_tokens=118,
    generated_tokens=5,
    wire_bytes=362_914,
    output="The correct answer is B",
)
RECORDS = [
    RECORD,
    replace(RECORD, predicted=None, correct=False, output=""),
    replace(RECORD, donor_id="9-1", donor_answer="C"),
    replace(RECORD, predicted=None, correct=False, output="", unanswered="too long"),
    replace(RECORD, option_logprobs={"A": -0.6931, "B": -0.0, "ä": -1e-4}),
    replace(RECORD, output='lines\nand "quotes" \u2028 \x00 \U0001f409 ä\ttab'),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record_lines(iter(RECORDS)), encoding="utf-8")
    assert read_records(path) == RECORDS
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == len(RECORDS) + 1 and lines[-1] == b""
    assert json.loads(lines[0])["wire_bytes"] == 362_914
    assert ["unanswered" in json.loads(line) for line in lines[:-1]] == [
        record.unanswered is not None for record in RECORDS
    ]
    assert [r.option_logprobs for r in read_records(path)] == [r.option_logprobs for r in RECORDS]
    assert ["option_logprobs" in json.loads(line) for line in lines[:-1]].count(True) == 1
    assert "ä" in path.read_text(encoding="utf-8")
    path.write_text(record_lines([]), encoding="utf-8")
    assert read_records(path) == []


def broken(line: bytes, path: Path) -> str:
    path.write_text(record_lines(RECORDS[:1]), encoding="utf-8")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(LatentWireError) as caught:
        read_records(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"3", b"null", b'"text"', b"[]", b"{}", b"\xff\xfe", b'{"example_id": 1}']
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    assert broken(line, path).startswith(f"{path}, line 2: not a record: ")


def test_a_line_is_one_object_with_white_space_around_it_or_none(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = record_lines([RECORD]).rstrip()
    path.write_text(f" \t{line} \r\n{line}")
    assert read_records(path) == [RECORD, RECORD]
    assert "line 2: not a record: more follows" in broken(f"{line} {line}".encode(), path)


@pytest.mark.parametrize("wrong", [{"index": "3"}, {"correct": 1}, {"elements": None}])
def test_each_line_is_asked_what_its_values_are(tmp_path: Path, wrong: dict[str, object]) -> None:
    row = json.loads(record_lines([RECORD])) | wrong
    name = next(iter(wrong))
    assert f"{name} is a " in broken(json.dumps(row).encode(), tmp_path / "records.jsonl")


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record_lines([replace(RECORD, output="ä")]), encoding="utf-8")
    line = path.read_text(encoding="utf-8").rstrip().encode("latin-1")
    assert "line 2: not a record: 'utf-8' codec can't decode" in broken(line, path)


def test_missing_and_unknown_fields_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record_lines([RECORD]), encoding="utf-8")
    row = json.loads(path.read_text())
    del row["wire_bytes"]
    assert "'wire_bytes'" in broken(json.dumps(row).encode(), path)
    row |= {"wire_bytes": 1, "bytes": 2}
    assert "fields ['bytes'] are missing or unknown" in broken(json.dumps(row).encode(), path)


def test_a_cut_last_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record_lines(RECORDS), encoding="utf-8")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LatentWireError, match="line 6: not a record"):
        read_records(path)


@pytest.mark.parametrize("found", ["NaN", "-Infinity", "0.5", "-1", '"-1.0"', "null", "[-1.0]"])
def test_no_logarithm_of_a_probability_is_read(tmp_path: Path, found: str) -> None:
    line = record_lines([replace(RECORD, option_logprobs={"A": -1.0})])
    text = line.rstrip().replace('{"A": -1.0}', f'{{"A": {found}}}')
    assert "option_logprobs of 'A' is" in broken(text.encode(), tmp_path / "records.jsonl")
