import pytest

from latentwire.suggestion import MOST_LISTED, did_you_mean, known_names

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


def test_a_few_names_are_listed_and_of_many_the_near_ones() -> None:
    few = known_names("dmo", KNOWN, "latentwire list pairs")
    assert few == f" (did you mean demo?); there are {', '.join(KNOWN)}"
    many = [f"int{bits}" for bits in range(MOST_LISTED + 1)]
    said = known_names("int7_", many, "latentwire list codecs")
    assert said.startswith(" (did you mean int7, int") and said.count("int") == 3
    assert said.endswith(f"?); all {len(many)}: latentwire list codecs")
    assert known_names("zzz", many, "latentwire list codecs").startswith("; all")
