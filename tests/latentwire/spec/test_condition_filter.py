"""Which conditions a text names."""

from collections.abc import Iterator

import pytest

from latentwire.errors import LatentWireError
from latentwire.spec.axes import Point, params_of
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.spec.condition_filter import condition_filter


def points() -> Iterator[Point]:
    yield Condition("receiver").point
    yield Condition("text", message=Message("utf8", 8), control="matched").point
    for codec in ("int8", "int4", "klt1.5"):
        for ratio, order in ((1.0, "front"), (0.5, "front"), (0.5, "back")):
            for control in ("matched", "deranged"):
                yield Condition("c2c", Channel(codec, ratio, order), control).point


def taken(text: str) -> set[tuple[str, float | None, str | None, str]]:
    wanted = condition_filter(text)
    return {
        (point.codec, point.keep_ratio, point.order, point.control)
        for point in points()
        if wanted.takes(point, "demo")
    }


FRONT, BACK = ("int8", 0.5, "front", "matched"), ("int8", 0.5, "back", "matched")
WHOLE = ("int8", 1.0, "front", "matched")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("codec=int8", {WHOLE, FRONT, BACK}),
        ("codec=int8,order=front", {WHOLE, FRONT}),
        # The whole cache has no order: it ends the curve of the back as well.
        ("codec=int8,order=back", {WHOLE, BACK}),
        (" codec = int8 , keep_ratio = .5", {FRONT, BACK}),
        ("codec=int8,codec=int4,keep_ratio=1", {WHOLE, ("int4", 1.0, "front", "matched")}),
        ("codec=klt*,keep_ratio=1.0", {("klt1.5", 1.0, "front", "matched")}),
        ("codec=int8,control=deranged,keep_ratio=1", {("int8", 1.0, "front", "deranged")}),
        ("codec=int8,keep_ratio=1,alignment=none", {WHOLE}),
        ("codec=int8,alignment=longest", set()),
        ("system=text", {("utf8", None, None, "matched")}),
        ("message_tokens=8,system=text", {("utf8", None, None, "matched")}),
        ("message_tokens=8", set()),
        ("system=receiver", {("none", None, None, "none")}),
        ("codec=int8,order=back,pair=d*", {WHOLE, BACK}),
        ("codec=int8,pair=other", set()),
    ],
)
def test_what_a_text_takes(text: str, expected: set[object]) -> None:
    assert taken(text) == expected


def test_runs_are_taken_by_their_parameters() -> None:
    wanted = condition_filter("codec=int8,order=back")
    for point in points():
        params = {"pair": "demo", **params_of(vars(point))}
        assert wanted.takes_run(params) == wanted.takes(point, "demo")
    # What is malformed is for its reader to refuse, and is not passed over.
    assert wanted.takes_run({"pair": "demo", "codec": "int4"})


def test_within_a_budget_all_of_a_cache_has_an_order() -> None:
    point = Condition("c2c", Channel("int8", 1, "back", budget_bytes=700), "matched").point
    found = [condition_filter(f"order={order}").takes(point, "demo") for order in ("back", "front")]
    assert found == [True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no NAME=VALUE"),
        ("int8", "'int8' is no NAME=VALUE: name conditions as in codec=int8,order=front"),
        ("codec=int8,", "'' is no NAME=VALUE"),
        ("codec=", "'codec=' is no NAME=VALUE"),
        ("kodec=int8", "'kodec' is none of system, codec, "),
        ("control=other", "control='other': control is one of matched, deranged, "),
        ("keep_ratio=half", "keep_ratio='half': keep_ratio is a number, or none"),
        ("message_tokens=8.5", "message_tokens is a number, or none"),
        ("system=c3*", "system is one of receiver, "),
    ],
)
def test_what_is_no_name_of_conditions(text: str, words: str) -> None:
    with pytest.raises(LatentWireError) as raised:
        condition_filter(text)
    assert words in str(raised.value)
