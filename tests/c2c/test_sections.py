import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2c.errors import C2CError
from c2c.sections import Section, kept_tokens, split

RATIOS = st.integers(0, 64).map(lambda n: n / 64)  # exact in binary: floor can be known
ORDERS = st.sampled_from(["front", "back"])


@given(st.integers(1, 400), RATIOS, ORDERS, st.sampled_from([1, 2, 3]))
def test_sections_follow_the_formula(tokens: int, ratio: float, order: str, mark: int) -> None:
    sections = split(tokens, ratio, order, mark)

    # Without a gap, from the first token to the last, and neighbours differ.
    assert [s.start for s in sections] == [0, *(s.stop for s in sections[:-1])]
    assert sections[-1].stop == tokens
    assert all(s.start < s.stop for s in sections)
    assert all(a.sharer_mask != b.sharer_mask for a, b in itertools.pairwise(sections))

    marked = [s for s in sections if s.sharer_mask > 0]
    kept = int(Fraction(ratio) * (tokens - 1))
    assert sum(s.stop - s.start for s in marked) == kept
    if kept:
        (section,) = marked
        assert section.sharer_mask == mark
        edge = section.start if order == "front" else tokens - 1 - section.stop
        assert edge == 0
    assert sections[-1].sharer_mask == -1


@given(st.integers(1, 2000), st.floats(0, 1))
def test_as_many_are_kept_as_the_product_says(tokens: int, ratio: float) -> None:
    kept = kept_tokens(tokens, ratio)
    assert 0 <= kept <= tokens - 1
    # The product is rounded to a double before it is floored, as in the reference.
    assert abs(kept - Fraction(ratio) * (tokens - 1)) <= 1
    assert kept <= (tokens - 1) * ratio < kept + 1


@pytest.mark.parametrize(
    ("tokens", "ratio", "order", "expected"),
    [
        (7, 1.0, "front", [(1, 6), (-1, 1)]),
        (7, 1.0, "back", [(1, 6), (-1, 1)]),
        (7, 0.5, "front", [(1, 3), (-1, 4)]),
        (7, 0.5, "back", [(-1, 3), (1, 3), (-1, 1)]),
        (7, 0.1, "back", [(-1, 7)]),
        (7, 0.0, "front", [(-1, 7)]),
        (1, 1.0, "front", [(-1, 1)]),
        (101, 0.29, "front", [(1, 28), (-1, 73)]),  # 100 * 0.29 is 28.999999999999996
    ],
)
def test_known_prompts(
    tokens: int, ratio: float, order: str, expected: list[tuple[int, int]]
) -> None:
    assert [(s.sharer_mask, s.stop - s.start) for s in split(tokens, ratio, order)] == expected


def test_the_mark_names_the_sharers() -> None:
    assert split(5, 1.0, "front", sharer_mask=3)[0] == Section(3, 0, 4)


@pytest.mark.parametrize(
    ("tokens", "ratio", "order", "words"),
    [
        (0, 1.0, "front", "at least one token"),
        (5, 1.5, "front", "between 0 and 1, not 1.5"),
        (5, -0.1, "front", "between 0 and 1"),
        (5, float("nan"), "front", "between 0 and 1, not nan"),
        (5, 0.5, "middle", "front, back, not 'middle'"),
    ],
)
def test_nonsense_is_refused(tokens: int, ratio: float, order: str, words: str) -> None:
    with pytest.raises(C2CError, match=words):
        split(tokens, ratio, order)
