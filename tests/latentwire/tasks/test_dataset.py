"""Identity of a question set, and the check against what is pinned."""

from dataclasses import replace

import pytest

from latentwire.errors import LatentWireError
from latentwire.tasks import arc_c
from latentwire.tasks.dataset import build_dataset, content_hash
from latentwire.tasks.rows import Expected
from latentwire.tasks.task import Example


def row(number: int, key: str = "A", labels: str = "AB") -> tuple[str, object]:
    choices = {"text": [f"yes{number}", "no"], "label": list(labels)}
    content = {"id": f"q{number}", "question": "Q?", "choices": choices, "answerKey": key}
    return f"row {number}", content


TASK = replace(arc_c.TASK, name="x")
ROWS = [row(0), row(1, "1", "12"), row(2, "B")]
HASH = "1deef13570cc5649fd886a660bdfa74682e47bfce7c78e955fea700c0134de49"


def test_hash_is_of_the_content_alone() -> None:
    dataset = build_dataset(TASK, ROWS, "here")
    elsewhere = build_dataset(TASK, [("other", r) for _, r in ROWS], "there")
    assert (dataset.rows, len(dataset.examples)) == (3, 2)
    # Pinned: results are found again by it, so it may not change between versions.
    assert dataset.hash == elsewhere.hash == HASH


@pytest.mark.parametrize(
    "other",
    [
        Example("q9", 0, "Q?", ("a", "b"), "A"),
        Example("q0", 1, "Q?", ("a", "b"), "A"),
        Example("q0", 0, "Q!", ("a", "b"), "A"),
        Example("q0", 0, "Q?", ("b", "a"), "A"),
        Example("q0", 0, "Q?", ("a", "b"), "B"),
    ],
)
def test_hash_changes_with_every_field(other: Example) -> None:
    assert content_hash((other,)) != content_hash((Example("q0", 0, "Q?", ("a", "b"), "A"),))


def test_the_expected_set_passes() -> None:
    assert build_dataset(TASK, ROWS, "here", expected=Expected(3, 2, HASH)).hash == HASH


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Expected(4, 2, HASH), "expected 4 rows with 2 scored, found 3 with 2"),
        (Expected(3, 1, HASH), "expected 3 rows with 1 scored, found 3 with 2"),
        (Expected(3, 2, "abc"), f"expected content hash abc, found {HASH}"),
    ],
)
def test_another_set_is_refused(expected: Expected, message: str) -> None:
    with pytest.raises(LatentWireError) as caught:
        build_dataset(TASK, ROWS, "here", expected=expected)
    assert str(caught.value) == f"here is not the x set: {message}"


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(LatentWireError, match="here: no question with a key A to D among 1 rows"):
        build_dataset(TASK, [row(1, "1", "12")], "here")
