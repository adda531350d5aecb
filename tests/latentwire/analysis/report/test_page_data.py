import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes
from latentwire.analysis.provenance import Origin
from latentwire.analysis.report.page_data import matches, page_data
from latentwire.evaluation.record import Record
from latentwire.tasks import arc_c
from latentwire.tasks.dataset import Dataset, build_dataset

Make = Callable[..., ConditionResult]
ORIGIN = Origin(
    *("run1", "7", "m2 demo", "m2", "demo", "local"),
    *(1_000, 61_000, "FINISHED", "node", "cuda", ("H100", "H100"), "bfloat16", "f00", "beef", 12),
)


def questions(keys: str) -> Dataset:
    rows = [
        (
            str(place),
            {
                "id": f"set:{place}",
                "question": f"What is {place}?\nSay.",
                "choices": {"text": list("wxyz"), "label": list("ABCD")},
                "answerKey": key,
            },
        )
        for place, key in enumerate(keys)
    ]
    return build_dataset(replace(arc_c.TASK, name="set"), rows, "made up")


def make(
    results: Sequence[ConditionResult], datasets: dict[str, Dataset] | None = None
) -> dict[str, Any]:
    made = page_data(
        build_curve(results),
        results,
        datasets or {},
        [ORIGIN],
        ["careful"],
        ["said"],
        "sqlite:///x",
        "today",
    )
    # All of it is JSON, without NaN.
    return json.loads(json.dumps(made, allow_nan=False))  # type: ignore[no-any-return]


def changed(result: ConditionResult, **changes: Sequence[object]) -> ConditionResult:
    """A result whose records have other values in some fields, by place."""
    records = tuple(
        replace(record, **{name: values[place] for name, values in changes.items()})  # type: ignore[arg-type]
        for place, record in enumerate(result.records)
    )
    return replace(result, records=records)


def decoded(made: dict[str, Any], point: dict[str, Any], control: str) -> list[tuple[str, str]]:
    """(letter, output) a question that was asked."""
    answers = made["answers"][point["answers"][control]]
    pairs = zip(answers["letters"], answers["texts"], strict=True)
    return [(letter, made["texts"][text]) for letter, text in pairs if letter != " "]


def test_every_answer_is_there_and_equal_outputs_once(condition: Make) -> None:
    sentences = ["It is A", "It is B", "It is A", "well"]
    matched = changed(condition("ABA-"), output=sentences)
    deranged = changed(condition("BBB", control="deranged", total=4), output=["It is B"] * 3)
    made = make([matched, deranged, condition("AAAA", system="receiver")])
    point = next(point for point in made["points"] if point["system"] == "c2c")
    assert decoded(made, point, "matched") == list(zip("ABA-", sentences, strict=True))
    assert decoded(made, point, "deranged") == [("B", "It is B")] * 3
    assert made["answers"][point["answers"]["deranged"]]["letters"] == "BBB "
    assert sorted(made["texts"]) == ["A", "It is A", "It is B", "well"]
    alone = next(point for point in made["points"] if point["system"] == "receiver")
    assert [letter for letter, _ in decoded(made, alone, "matched")] == list("AAAA")
    assert alone["wire_bytes_mean"] == 0 and alone["keep_ratio"] is None


def test_points_hold_the_curves_numbers(condition: Make) -> None:
    results = [condition("AAB"), condition("ABB", control="deranged")]
    (point,) = make(results)["points"]
    row = build_curve(results).iloc[0]
    for name in ("accuracy", "accuracy_low", "pairing_gain", "pairing_gain_high"):
        assert point[name] == float(row[name])
    assert (point["examples"], point["complete"], point["bf16_difference"]) == (3, True, None)


def test_prompts_are_whole_and_their_common_lines_stand_once(condition: Make) -> None:
    dataset = questions("AAAB")
    made = make([condition("AA", total=4)], {"set": dataset})
    (table,) = made["questions"]
    prompts = [table["before"] + prompt + table["after"] for prompt in table["prompts"]]
    assert prompts == [dataset.task.prompt_text(e) for e in dataset.examples]
    assert table["before"].endswith("\n\n") and table["after"].startswith("\n")
    assert all(prompt.startswith("What is ") for prompt in table["prompts"])
    assert (table["keys"], table["ids"]) == ("AAAB", [f"set:{place}" for place in range(4)])
    # Questions that were not asked have a place, and no answer.
    assert made["answers"][0]["letters"] == "AA  "
    assert made["answers"][0]["texts"][2:] == [-1, -1]


def test_another_question_set_gives_no_prompts(condition: Make) -> None:
    result = condition("AA")
    assert matches(questions("AAAB"), result.records)
    for wrong in (questions("AB"), questions("A")):
        assert not matches(wrong, result.records)
        (table,) = make([result], {"set": wrong})["questions"]
        assert table["prompts"] is None and table["keys"] == "AA"


def test_donors_are_places_in_the_table_and_lists_are_shared(condition: Make) -> None:
    lent = ["set:1", "set:2", "nobody"]
    results = [condition("AAA"), condition("AAA", codec="int4")]
    results += [
        changed(condition("ABC", codec=codec, control="deranged"), donor_id=lent)
        for codec in ("int8", "int4")
    ]
    made = make(results)
    assert made["donors"] == [[1, 2, -1]]
    lists = [made["answers"][point["answers"]["deranged"]]["donors"] for point in made["points"]]
    assert lists == [0, 0]


def test_published_answers_go_by_the_same_questions_if_keys_agree(condition: Make) -> None:
    local, published = condition("AB"), condition("AB", source="published")
    published = changed(published, example_id=["published:0", "published:1"])
    made = make([published, local])
    assert [group["questions"] for group in made["groups"]] == [0, 0]
    assert made["questions"][0]["ids"] == ["set:0", "set:1"]
    other = condition("AB", answers="BA", source="published")
    made = make([other, local])
    places = {group["source"]: group["questions"] for group in made["groups"]}
    assert places["local"] != places["published"] and len(made["questions"]) == 2


def test_parts_of_a_condition_are_joined(condition: Make) -> None:
    made = make([condition("AB", total=4), condition("CD", first=2, total=4)])
    assert [answers["letters"] for answers in made["answers"]] == ["ABCD"]


def test_groups_and_runs_say_where_numbers_come_from(condition: Make) -> None:
    results = [condition("AB")]
    frame = with_hashes(build_curve(results), {("demo", "local"): "beef"}, {})
    made = page_data(frame, results, {}, [ORIGIN], [], [], "http://u:secret@server:5000", "today")
    (group,) = made["groups"]
    assert (group["fuser_hash"], group["dataset_hash"]) == ("beef", None)
    (run,) = made["runs"]
    assert run["url"] == "http://server:5000/#/experiments/7/runs/run1"
    assert (run["device"], run["answers"], run["commit"]) == ("H100", 12, "f00")
    assert "secret" not in json.dumps(made)


@pytest.mark.parametrize("text", ["", "\ud800", "\x00", "</script>"])
def test_any_output_is_kept(condition: Make, text: str) -> None:
    record: Record = condition("A").records[0]
    result = replace(condition("A"), records=(replace(record, output=text),))
    assert make([result])["texts"] == [text]
