import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from nasty_names import NASTY

from latentwire.analysis.safe_names import MOST_BYTES, file_names, metric_name, metric_names

keys = st.lists(
    st.tuples(st.text(max_size=150) | st.sampled_from(NASTY), st.sampled_from(["set", "Set", "a"])),
    unique=True,
    max_size=8,
)


@given(keys)
def test_names_are_safe_short_and_apart(found: list[tuple[str, str]]) -> None:
    names = file_names(found)
    assert list(names) == found
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in names.values()}
    assert len(folded) == len(found)
    for name in names.values():
        assert not set(name) & set('/\\:*?"<>|\n\0 ')
        assert len(name.encode()) <= MOST_BYTES
    assert len(set(metric_names(found).values())) == len(found)


def test_ordinary_names_stay() -> None:
    pairs = [("demo_graded", "Qwen3-0.6B+Qwen2.5"), ("arc_c", "demo"), ("openbookqa",)]
    assert list(file_names(pairs).values()) == [
        *("demo_graded_Qwen3-0.6B+Qwen2.5", "arc_c_demo", "openbookqa")
    ]
    assert metric_names([("set",), ("a:b", "set")]) == {("set",): "set", ("a:b", "set"): "a_b/set"}


def test_what_had_to_be_changed_or_differs_in_case_alone_is_told_apart() -> None:
    names = file_names(
        [("a/b",), ("a_b",), ("a:b",), ("Mine",), ("mine",), ("x_y", "z"), ("x", "y_z")]
    )
    assert names["a_b",].startswith("a_b-") and len(set(names.values())) == 7
    assert names["a/b",].startswith("a_b-") and names["Mine",].startswith("Mine-")
    assert file_names([("Mine",)]) == {("Mine",): "Mine"}
    assert file_names([("../x",)])["../x",].startswith(".._x-")


def test_metric_names_are_mlflows() -> None:
    assert metric_name("a|b/c é(d)") == "a_b_c __d_"
