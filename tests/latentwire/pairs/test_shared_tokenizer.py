"""Whether two vocabularies mean the same."""

import pytest

from latentwire.errors import LatentWireError
from latentwire.pairs.tokenizer import check_same_tokenizer


class Vocabulary:
    """The one thing that is asked of a tokenizer."""

    def __init__(self, **tokens: int) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return self._tokens


@pytest.mark.parametrize(
    "sharer",
    [{"a": 0, "b": 1}, {"a": 0, "b": 1, "more": 2}, {"a": 0}],
    ids=["same", "more", "fewer"],
)
def test_ids_that_both_know_agree(sharer: dict[str, int]) -> None:
    check_same_tokenizer(Vocabulary(a=0, b=1), Vocabulary(**sharer))


@pytest.mark.parametrize(
    ("sharer", "conflict"),
    [
        ({"b": 0, "a": 1}, "'b' is 1 for the receiver and 0 for the sharer"),
        ({"a": 0, "b": 5}, "'b' is 1 for the receiver and 5 for the sharer"),
        ({"a": 0, "c": 1}, "1 is 'b' for the receiver, 'c' for the sharer"),
    ],
)
def test_conflict_is_named(sharer: dict[str, int], conflict: str) -> None:
    with pytest.raises(LatentWireError) as caught:
        check_same_tokenizer(Vocabulary(a=0, b=1), Vocabulary(**sharer))
    said = (
        "the tokenizers differ, say 'shared_tokenizer: false' in the pair's file, or"
        " alignment=longest in its line"
    )
    assert str(caught.value) == f"{said}: {conflict}"
