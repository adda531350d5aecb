import pytest

from latentwire.suggestion import did_you_mean

KNOWN = ("demo", "demo_self", "qwen3_0.6b+qwen2.5_0.5b")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("dmo", "demo"), ("DEMO-SELF", "demo_self"), ("qwen3_0.6+qwen2.5_0.5", KNOWN[2])],
)
def test_the_closest_name_is_suggested(typed: str, meant: str) -> None:
    assert did_you_mean(typed, KNOWN) == f" (did you mean {meant}?)"


@pytest.mark.parametrize("typed", ["", "llama", "--"])
def test_what_is_close_to_nothing_gets_no_suggestion(typed: str) -> None:
    assert did_you_mean(typed, KNOWN) == ""
