import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2c.sections import split
from latentwire.channel.selector import kept


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from(["front", "back"]))
def test_kept_tokens_are_those_that_the_protocol_fuses(
    tokens: int, keep_ratio: float, order: str
) -> None:
    positions = kept(tokens, keep_ratio, order)
    assert len(positions) == int((tokens - 1) * keep_ratio)
    fused = [s for s in split(tokens, keep_ratio, order) if s.mark > 0]
    assert list(positions) == [t for s in fused for t in range(s.start, s.stop)]
    assert tokens - 1 not in positions
    if positions:
        assert (positions[0] == 0) if order == "front" else (positions[-1] == tokens - 2)


@pytest.mark.parametrize(
    ("tokens", "keep_ratio", "order", "expected"),
    [
        (119, 1.0, "front", range(118)),
        (119, 0.1, "front", range(11)),
        (119, 0.1, "back", range(107, 118)),
        (119, 0.0, "back", range(0)),
        (8, 0.1, "front", range(0)),
        (1, 1.0, "front", range(0)),
    ],
)
def test_known_prompts(tokens: int, keep_ratio: float, order: str, expected: range) -> None:
    assert kept(tokens, keep_ratio, order) == expected
