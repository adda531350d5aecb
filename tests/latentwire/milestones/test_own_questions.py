"""A milestone on a user's own questions: a changed file is new work, and is never mixed with what
was answered before."""

import json
from pathlib import Path

import pytest

import latentwire as lw

ROWS = [
    {"question": f"What is {name}?", "choices": ["red", "blue"], "answer": key}
    for name, key in (("blood", "A"), ("the sky", "B"), ("a rose", "A"))
]


def write(path: Path, *more: object, rows: list[dict[str, object]] = ROWS) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *more)))


@pytest.mark.slow
def test_a_changed_file_is_new_work_and_a_curve_of_its_own(
    empty: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = empty / "mine.jsonl"
    write(path, "no row")
    given = {"pair": "demo", "dataset": path, "kv_bits": 8, "controls": "matched", "device": "cpu"}
    first = lw.run("m2", tracking_uri="store.db", **given)
    assert first.curve is not None and first.run_id
    assert list(first.curve["dataset"]) == ["mine"] and list(first.curve["examples"]) == [3]
    assert "0 of 3 answers are finished" in capsys.readouterr().out
    assert "mine.jsonl, row 4: expected an object with named fields, got str" in caplog.text

    write(path)  # the same questions: nothing is new
    lw.run("m2", tracking_uri="store.db", **given)
    assert "3 of 3 answers are finished" in capsys.readouterr().out

    write(path, rows=[{**ROWS[0], "answer": "B"}, *ROWS[1:]])
    lw.run("m2", tracking_uri="store.db", **given)
    assert "0 of 3 answers are finished" in capsys.readouterr().out
    answers = lw.records("store.db", dataset="mine")
    assert list(answers["answer"]) == ["B", "B", "A"]  # the newest content's, each once
    assert "dataset mine has runs of 2 contents of the question set's file" in caplog.text
    curve = lw.curve("store.db")
    assert list(curve["examples"]) == [3]
    assert curve["dataset_hash"][0] != ""

    write(path)
    lw.run("m4", tracking_uri="store.db", pair="demo", dataset=path)
    assert "mine.jsonl has changed since it was answered" in caplog.text

    caplog.clear()
    lw.run("m4", tracking_uri="store.db", pair="demo", output_dir="out")
    assert "no prompts" not in caplog.text  # nothing is wrong where the file is not given
    said = "No prompts of mine, of a file of your own: dataset=FILE gives it."
    assert said in (empty / "out" / "report.html").read_text()
