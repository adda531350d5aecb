"""Right, wrong, and the letters answered."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.evaluation.score import is_correct, letter_shares


def record(predicted: str | None) -> Record:
    return Record("q", 0, "A", predicted, is_correct(predicted, "A"), 10, 2, 100, "text")


def test_no_letter_is_wrong() -> None:
    assert [is_correct(predicted, "B") for predicted in ("B", "A", None)] == [True, False, False]


def test_shares_name_every_letter_and_none() -> None:
    shares = letter_shares(record(letter) for letter in ("A", "C", "C", None))
    assert list(shares.items()) == [("A", 0.25), ("B", 0), ("C", 0.5), ("D", 0), ("none", 0.25)]


def test_no_records_have_no_shares() -> None:
    with pytest.raises(LatentWireError, match="no records"):
        letter_shares([])


def test_published_answers_are_scored_as_in_the_study(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wrong = [
        row
        for row in rows
        if is_correct(row["predicted"] or None, row["answer"]) != (row["correct"] == "1")
    ]
    assert len(rows) == 21450
    assert wrong == []


def test_published_shares_of_letters(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    with path.open(encoding="utf-8") as file:
        records = [
            record(row["predicted"] or None)
            for row in csv.DictReader(file)
            if (row["milestone"], row["scheme"], row["dataset"]) == ("M2", "int8", "arc_c")
        ]
    counts = {
        letter: round(share * len(records)) for letter, share in letter_shares(records).items()
    }
    assert counts == Counter(A=284, B=474, C=194, D=186, none=12)
