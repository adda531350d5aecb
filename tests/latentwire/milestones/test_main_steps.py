"""What `main` does when a step cannot be done."""

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from c2c.errors import C2CError
from latentwire.errors import LatentWireError
from latentwire.milestones import calibrate, m0, m1, m3, m8, main
from latentwire.parameters import checked
from latentwire.tracking.store import Store


def test_without_a_calibration_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = checked(main.PARAMETERS, {p.name: p.default for p in main.PARAMETERS})
    session: Any = SimpleNamespace(values=values, under=lambda values: None)

    def cannot(*_: object) -> None:
        raise LatentWireError("train.jsonl: cannot be read")

    monkeypatch.setattr(main, "run_milestone", cannot)
    main._run_step(calibrate, session)
    assert capsys.readouterr().out == "calibrate: left out: train.jsonl: cannot be read\n"
    with pytest.raises(LatentWireError):
        main._run_step(m1, session)


def failing(error: Exception) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def test_a_milestone_that_fails_does_not_take_the_others_with_it(store: Store) -> None:
    failures = main._Failures(store, 7)
    done: list[str] = []
    failures.survive("m0", failing(LatentWireError("device cpu has not enough memory")))
    failures.survive("m2", lambda: done.append("m2"))
    failures.survive("m3", failing(C2CError("a prompt is too short\nand more")))
    assert done == ["m2"]
    with pytest.raises(LatentWireError) as caught:
        failures.end()
    assert str(caught.value) == (
        "2 of 7 milestones failed, the others are done (m0: device cpu has not enough memory; m3: a"
        " prompt is too short and more); mend it and start again, finished chunks are kept"
    )


def test_selectors_are_compared_where_asked_on_few_questions() -> None:
    texts = {p.name: p.default for p in main.PARAMETERS}
    assert checked(main.PARAMETERS, texts)["m8_order"] == ()
    for limit, wanted in (("0", main.M8_QUESTIONS), ("7", 7)):
        given = checked(main.PARAMETERS, texts | {"m8_order": "vnorm,snapkv", "limit": limit})
        values = main._complete(m8.PARAMETERS, given)
        assert values["limit"] == wanted
        told = [c.channel for c in m8.conditions(values) if c.channel]
        assert {(c.codec, c.keep_ratio) for c in told} == {("int8", main.M8_KEEP_RATIO)}
        assert {c.order for c in told} == {"vnorm", "snapkv"} and len(told) == 4
    with pytest.raises(LatentWireError, match="m8_order=best: must be one of front"):
        checked(main.PARAMETERS, texts | {"m8_order": "best"})


def test_further_controls_are_sent_besides_the_usual_ones() -> None:
    texts = {p.name: p.default for p in main.PARAMETERS}

    def controls(**given: str) -> object:
        return main._complete(m0.PARAMETERS, checked(main.PARAMETERS, texts | given))["controls"]

    assert controls() == ("matched", "deranged", "zero")
    assert controls(m0_controls="mean,zero") == ("matched", "deranged", "zero", "mean")
    with pytest.raises(LatentWireError, match="m0_controls=none: must be one of matched"):
        controls(m0_controls="none")


def test_m3_keeps_the_shares_of_tokens_that_are_asked_for() -> None:
    texts = {p.name: p.default for p in main.PARAMETERS}

    def ratios(**given: str) -> object:
        return main._complete(m3.PARAMETERS, checked(main.PARAMETERS, texts | given))["keep_ratio"]

    assert ratios() == (1.0, 0.75, 0.5, 0.25, 0.1)
    assert ratios(m3_keep_ratio="1,0.5") == (1.0, 0.5)


def test_a_mistake_in_the_code_is_shown_as_one_after_the_others(store: Store) -> None:
    failures = main._Failures(store, 7)
    failures.survive("m0", failing(LatentWireError("no memory")))
    failures.survive("m1", failing(ZeroDivisionError("a mistake")))
    with pytest.raises(ZeroDivisionError):
        failures.end()


def test_what_the_next_milestone_would_meet_too_ends_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = main._Failures(store, 7)
    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (full, MlflowException("the server says no"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            failures.survive("m0", failing(error))  # type: ignore[arg-type]
    monkeypatch.setattr(Store, "is_reachable", lambda self: False)
    with pytest.raises(LatentWireError, match="could not be delivered"):
        failures.survive("m0", failing(LatentWireError("results could not be delivered")))
    assert not failures.errors
    failures.end()
