import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest

from latentwire.channel.registry import CODECS
from latentwire.errors import LatentWireError
from latentwire.spec import setting as module
from latentwire.spec.axes import AXES, SYSTEMS, Point, has_budget, is_whole, read_params, sort_key
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.spec.names import condition_name
from latentwire.spec.setting import MAX_NEW_TOKENS, Setting

SETTING = Setting(
    pair="tiny",
    pair_identity="ab" * 32,
    dataset="openbookqa",
    dataset_hash="cd" * 32,
    prompt_version=1,
    dtype="float32",
    seed=42,
)
CONDITION = Condition("c2c", Channel("int8", 0.5, "back"), "matched")


def fingerprint(condition: Condition, setting: Setting = SETTING) -> str:
    return setting.condition_fingerprint(condition)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Keeping everything, or nothing, has no order.
        (Channel("int8", 1.0, "back"), Channel("int8")),
        (Channel("int8", 0.0, "back"), Channel("int8", 0.0, "front")),
        # One number has one spelling.
        (Channel("int8", 1), Channel("int8", 1.0)),
        (Channel("int8", 0), Channel("int8", -0.0)),
        (Channel("int8", 0.5), Channel("int8", 0.50)),
    ],
)
def test_what_is_the_same_has_one_fingerprint(first: Channel, second: Channel) -> None:
    conditions = [Condition("c2c", channel, "matched") for channel in (first, second)]
    assert first == second and hash(first) == hash(second)
    assert fingerprint(conditions[0]) == fingerprint(conditions[1])
    assert conditions[0].params() == conditions[1].params()
    assert conditions[0].label == conditions[1].label


def test_whatever_changes_a_result_changes_the_fingerprint() -> None:
    conditions = [
        CONDITION,
        Condition("receiver"),
        Condition("sharer"),
        Condition("c2c", Channel("int8", 0.5, "back"), "deranged"),
        Condition("c2c", Channel("int8", 0.5, "back"), "zero"),
        Condition("c2c", Channel("int8", 0.5, "front"), "matched"),
        Condition("c2c", Channel("int8", 0.25, "back"), "matched"),
        Condition("c2c", Channel("int8"), "matched"),
        *(
            Condition("c2c", Channel(name, 0.5, "back"), "matched")
            for name in CODECS
            if name != "int8"
        ),
    ]
    assert len({fingerprint(condition) for condition in conditions}) == len(conditions)
    assert len(set(conditions)) == len(conditions)
    settings = [SETTING]
    for field in fields(Setting):
        if field.name == "seed_everywhere":
            continue
        value = getattr(SETTING, field.name)
        changed = value + 1 if isinstance(value, int) else value + "x"
        settings.append(replace(SETTING, **{field.name: changed}))
    deranged = replace(CONDITION, control="deranged")
    assert len({fingerprint(deranged, setting) for setting in settings}) == len(settings)


def test_a_seed_is_in_the_fingerprints_of_what_it_chooses_alone() -> None:
    other = replace(SETTING, seed=7)
    assert other.identity() == SETTING.identity()
    for condition in (CONDITION, Condition("receiver"), replace(CONDITION, control="zero")):
        assert fingerprint(condition, other) == fingerprint(condition)
    deranged = replace(CONDITION, control="deranged")
    assert fingerprint(deranged, other) != fingerprint(deranged)


def test_a_donor_is_in_the_fingerprints_of_what_it_lends_alone() -> None:
    first = replace(CONDITION, control="deranged")
    others = [replace(first, donor=number) for number in (2, 3)]
    assert len({fingerprint(condition) for condition in (first, *others)}) == 3
    assert first.donor == 1 and first.point.donor == 1 and CONDITION.point.donor is None
    assert others[0].label == f"{first.label} donor 2" and first.params()["donor"] == "1"
    assert read_params(others[0].params() | {"kv_bits": "8"}) == vars(others[0].point) | {
        "kv_bits": 8
    }
    # Runs from when there was one donor do not say which.
    early = {name: text for name, text in first.params().items() if name != "donor"}
    assert Point(**read_params(early | {"kv_bits": "none"})) == first.point
    for control, donor in (("matched", 1), ("deranged", 0), ("zero", 2)):
        with pytest.raises(LatentWireError, match=f"{control}: it has no donor {donor}"):
            Point(**vars(CONDITION.point) | {"control": control, "donor": donor})
    for control, donor in (("matched", 2), ("deranged", 0)):
        with pytest.raises(AssertionError):
            replace(CONDITION, control=control, donor=donor)


def test_what_a_control_is_made_of_is_in_its_fingerprint_and_no_row() -> None:
    first, second = (
        replace(CONDITION, control="mean", control_calibration=digit * 64) for digit in "ab"
    )
    assert fingerprint(first) != fingerprint(second)
    assert first.params()["control_calibration"] == "a" * 64
    assert first.point.place == CONDITION.point.place and first.label == second.label


def test_results_from_when_the_seed_was_in_all_fingerprints_can_be_found() -> None:
    """The values are version 0.1.0's."""
    before = replace(SETTING, seed=7).before()
    assert before.identity().startswith("6e3a23078a51bace")
    assert fingerprint(Condition("receiver"), before).startswith("383cc8aedbeeb055")
    deranged = Condition("c2c", Channel("int8"), "deranged")
    assert fingerprint(deranged, before).startswith("be22937e8b0b72af")
    assert fingerprint(deranged, replace(SETTING, seed=7)) == fingerprint(deranged, before)


def test_a_raised_evaluation_version_changes_every_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fingerprint(CONDITION), SETTING.identity()
    raised = {**module._PROTOCOL, "evaluation_version": module.EVALUATION_VERSION + 1}
    monkeypatch.setattr(module, "_PROTOCOL", raised)
    assert fingerprint(CONDITION) != before[0]
    assert SETTING.identity() != before[1]


def test_the_identity_is_shared_by_all_datasets_and_conditions() -> None:
    other = replace(SETTING, dataset="arc_c", dataset_hash="ef" * 32)
    assert other.identity() == SETTING.identity()
    assert replace(SETTING, dtype="bfloat16").identity() != SETTING.identity()
    assert replace(SETTING, pair_identity="x").identity() != SETTING.identity()


def test_chunks_of_a_condition_have_fingerprints_of_their_own() -> None:
    chunks = {
        SETTING.chunk_fingerprint(condition, start, stop)
        for condition in (CONDITION, Condition("receiver"))
        for start, stop in ((0, 200), (200, 400), (0, 400), (0, 100))
    }
    assert len(chunks) == 8
    assert fingerprint(CONDITION) not in chunks


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = (
        "from latentwire.spec.setting import *\n"
        f"setting = Setting(**{asdict(SETTING)!r})\n"
        "condition = Condition('c2c', Channel('int8', 0.5, 'back'), 'matched')\n"
        "print(setting.condition_fingerprint(condition))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert done.strip() == fingerprint(CONDITION)
    assert len(fingerprint(CONDITION)) == 64


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan, math.inf])
def test_a_keep_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(LatentWireError, match="keep_ratio must be between 0 and 1, not"):
        Channel("int8", ratio)


@pytest.mark.parametrize(
    ("system", "channel", "control"),
    [
        ("nobody", None, "none"),
        ("c2c", None, "matched"),
        ("c2c", Channel("int8"), "none"),
        ("c2c", Channel("int8"), "swapped"),
        ("receiver", Channel("int8"), "none"),
        ("sharer", None, "matched"),
    ],
)
def test_conditions_that_mean_nothing_cannot_be_made(
    system: str, channel: Channel | None, control: str
) -> None:
    with pytest.raises(AssertionError):
        Condition(system, channel, control)


def test_params_and_labels_are_those_that_people_filter_by() -> None:
    assert CONDITION.params() == {
        "system": "c2c",
        "codec": "int8",
        "keep_ratio": "0.5",
        "order": "back",
        "control": "matched",
        "control_calibration": "none",
        "donor": "none",
        "calibration": "none",
        "message_tokens": "none",
        "alignment": "none",
        "budget_bytes": "none",
        "budget_ratio": "none",
    }
    assert set(Condition("receiver").params().values()) == {"receiver", "none"}
    assert CONDITION.label == "c2c int8 0.5 back matched"
    assert Condition("c2c", Channel("bf16"), "zero").label == "c2c bf16 full zero"
    assert Condition("sharer").label == "sharer alone"
    aligned = Condition("c2c", Channel("int8", alignment="offsets"), "matched")
    assert aligned.label == "c2c int8 full offsets matched" and aligned.alignment == "offsets"
    assert aligned.params()["alignment"] == "offsets"
    with pytest.raises(LatentWireError, match="alignment is 'last', not one of"):
        _ = Condition("c2c", Channel("int8", alignment="last"), "matched").point
    json.dumps(CONDITION.params())


def test_noise_under_an_alignment_is_not_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its moments were of padding too: what was kept so must not serve."""
    channels = Channel("int8"), Channel("int8", alignment="longest")
    conditions = [Condition("c2c", c, control) for c in channels for control in ("noise", "zero")]
    now = [fingerprint(each) for each in conditions]
    monkeypatch.setattr(module, "NOISE_VERSION", 1)
    changed = [one != fingerprint(each) for one, each in zip(now, conditions, strict=True)]
    assert changed == [False, False, True, False]


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (Channel("int8", order="back", budget_bytes=2048), "int8 back within 2048 bytes"),
        (Channel("int8", 0.5, "back", budget_ratio=1 / 16), "int8 0.5 back within 1/16"),
        (Channel("int8", budget_ratio=0.3), "int8 front within 0.3"),
        (Channel("int8", 0, "back", budget_bytes=9), "int8 0 front within 9 bytes"),
    ],
)
def test_a_budget_is_named_and_keeps_the_order(channel: Channel, words: str) -> None:
    """What goes of a whole cache that does not fit is for the selector to say."""
    condition = Condition("c2c", channel, "matched")
    assert condition.label == f"c2c {words} matched"
    row = vars(condition.point)
    assert has_budget(row) and not is_whole(row) and condition_name(row) == words
    assert read_params(condition.params() | {"kv_bits": "8.0"}) == row | {"kv_bits": 8.0}
    plain = Condition("c2c", replace(channel, budget_bytes=0, budget_ratio=0.0), "matched")
    assert fingerprint(condition) != fingerprint(plain)
    assert not has_budget(vars(plain.point)) and not has_budget({"keep_ratio": 1})


def test_rows_with_a_budget_stand_behind_those_without_from_large_to_small() -> None:
    channels = [
        Channel("int8"),
        Channel("int8", budget_bytes=4096),
        Channel("int8", budget_bytes=512),
        Channel("int8", 0.5),
        Channel("int8", 0.5, budget_ratio=0.5),
        Channel("int8", 0.5, budget_ratio=0.25),
    ]
    rows = [vars(Condition("c2c", channel, "matched").point) for channel in channels]
    assert sorted([*rows[3:], *rows[:3]], key=sort_key) == rows


@pytest.mark.parametrize(
    "given",
    [
        {"budget_bytes": 9, "budget_ratio": 0.5},
        {"budget_bytes": -1},
        {"budget_ratio": 1.5},
        {"budget_ratio": math.nan},
    ],
)
def test_a_budget_is_one_and_possible(given: dict[str, Any]) -> None:
    with pytest.raises(LatentWireError, match="budget"):
        Channel("int8", **given)


def test_the_protocol_decodes_64_tokens() -> None:
    assert MAX_NEW_TOKENS == 64


@pytest.mark.parametrize(
    ("condition", "golden"),
    [
        (
            Condition("receiver"),
            "3641a0fbe02b9299868592dcdf5dce710766ea00a6f6f9ffe8ddc6b13a7e293d",
        ),
        (Condition("sharer"), "a0b67bdef4a98557f2067d1cdce3c6dc5ab5936ada75fccde1b28d567ac43a6c"),
        (CONDITION, "7bcd9263edcbea4db9f23e0ed1c90b00c210bdae116a360f238f6abd8f0cd5a3"),
        (
            Condition("c2c", Channel("kvtc1", calibration="ef" * 32), "deranged"),
            "74ffa7e526f926a7336a11cedec5fb51ab0216cd4535c34038715ce664922829",
        ),
    ],
)
def test_fingerprints_are_those_from_before_there_were_messages(
    condition: Condition, golden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which were of the second evaluation version."""
    monkeypatch.setattr(module, "_PROTOCOL", {**module._PROTOCOL, "evaluation_version": 2})
    assert fingerprint(condition) == golden


def test_conditions_with_messages_differ_in_fingerprint_params_and_label() -> None:
    conditions = [
        *(
            Condition("text", control=control, message=Message(codec, tokens))
            for codec in ("utf8", "utf8+zstd")
            for tokens in (8, 32)
            for control in ("matched", "deranged")
        ),
        *(Condition(s, control=c) for s in ("letter", "logits") for c in ("matched", "deranged")),
        Condition("calibrated"),
        Condition("receiver"),
    ]
    for told in (fingerprint, lambda c: str(c.params()), lambda c: c.label):
        assert len({told(condition) for condition in conditions}) == len(conditions)


def test_the_version_of_messages_is_part_of_their_conditions_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [Condition("receiver"), CONDITION]
    competitors = [
        Condition("calibrated"),
        Condition("logits", control="matched"),
        Condition("text", control="matched", message=Message("utf8", 8)),
    ]
    before = [fingerprint(c) for c in others + competitors]
    monkeypatch.setattr("latentwire.spec.setting.MESSAGE_VERSION", 999)
    after = [fingerprint(c) for c in others + competitors]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True] * 2 + [False] * 3


@pytest.mark.parametrize(("codec", "tokens"), [("ascii", 8), ("utf8", 0)])
def test_a_message_that_cannot_be_is_refused(codec: str, tokens: int) -> None:
    with pytest.raises(LatentWireError, match=r"codec is one of|message_tokens must be"):
        Message(codec, tokens)


@pytest.mark.parametrize(
    "condition",
    [
        Condition("receiver"),
        Condition("logits", control="deranged"),
        Condition("text", control="matched", message=Message("utf8+zstd", 8)),
        Condition("c2c", Channel("kvtc1", 0.5, "back", "ef" * 32), "zero"),
    ],
)
def test_parameters_are_read_back_as_the_values_that_they_were(condition: Condition) -> None:
    params = {**condition.params(), "kv_bits": "none"}
    assert read_params(params) == vars(condition.point)
    early = {name: text for name, text in params.items() if not AXES[name].later}
    assert read_params(early).keys() == AXES.keys()  # as runs of the first version have them


def test_every_field_of_a_channel_is_an_axis() -> None:
    assert {each.name for each in fields(Channel)} < AXES.keys()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"system": "nobody"}, "system is 'nobody', not one of"),
        ({"control": "swapped"}, "control is 'swapped', not one of"),
        ({"keep_ratio": None}, "keep_ratio of c2c is empty"),
        ({"message_tokens": 8}, "message_tokens 8 does not go with c2c"),
        ({"system": "text"}, "keep_ratio 0.5 does not go with text"),
        ({"control": "none"}, "control of c2c is empty"),
    ],
)
def test_values_that_do_not_go_together_are_refused(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(LatentWireError, match=wrong):
        Point(**{**vars(CONDITION.point), **changes})


def test_a_new_field_changes_no_fingerprint_until_it_says_something() -> None:
    @dataclass(frozen=True)
    class Budgeted(Channel):
        budget_bytes: int = 0

    unsaid, said = (
        Condition("c2c", Budgeted("int8", 0.5, "back", budget_bytes=budget), "matched")
        for budget in (0, 1000)
    )
    assert fingerprint(unsaid) == fingerprint(CONDITION) != fingerprint(said)


def test_a_system_serves_the_questions_that_it_can_answer() -> None:
    asked = [(private, options) for private in (False, True) for options in (False, True)]
    served = {name: [system.serves(*each) for each in asked] for name, system in SYSTEMS.items()}
    everywhere = {name for name, found in served.items() if all(found)}
    assert everywhere == {"receiver", "sharer", "text", "c2c"}
    assert {name: found for name, found in served.items() if name not in everywhere} == {
        "calibrated": [False, True, False, True],
        "letter": [True, True, False, False],
        "logits": [False, True, False, False],
        "summary": [False, False, True, True],
    }
