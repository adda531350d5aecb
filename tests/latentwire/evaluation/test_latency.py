"""What is timed is what is evaluated: the same texts, prompts and fusion."""

import itertools

import pytest
import torch

from latentwire.channel.codec import CodecError
from latentwire.evaluation import baselines, latency
from latentwire.evaluation.baselines import MessagePrompts, ReferenceModels
from latentwire.evaluation.latency import measure
from latentwire.evaluation.latency_names import BUDGETS, coded_names, text_names
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.pairs.load import load_pair
from latentwire.parameters import STUDY, checked
from latentwire.session.configuration import Configuration
from latentwire.session.session import Session
from latentwire.spec.condition import Message
from latentwire.tasks.question import Question


@pytest.fixture(scope="module")
def demo() -> tuple[LoadedPair, list[Question]]:
    raw = {"pair": "demo", "device": "cpu", "limit": "3"}
    values = checked(STUDY, {p.name: raw.get(p.name, p.default) for p in STUDY})
    session = Session.of(Configuration(values, load_pair("demo"), "cpu", "float32"), store=None)  # type: ignore[arg-type]
    return session.loaded, session.asked(session.dataset_names[0])[:3]


def test_every_figure_is_there(demo: tuple[LoadedPair, list[Question]]) -> None:
    found = measure(*demo)
    names = {"sharer_prefill_ms", "receiver_prefill_ms", "fuse_ms", "letter_write_ms"}
    for budget in BUDGETS:
        names |= {*text_names(budget), *coded_names(budget)}
    assert found.keys() == names
    assert all(value > 0 for name, value in found.items() if not name.endswith("bytes"))


def test_the_bytes_are_those_of_the_baselines(demo: tuple[LoadedPair, list[Question]]) -> None:
    pair, questions = demo
    found, models = measure(pair, questions), ReferenceModels(pair)
    for budget in BUDGETS:
        message = Message("utf8", budget)
        sent = [len(baselines.send_text(models, message, each)[0]) for each in questions]
        assert found[text_names(budget)[2]] == pytest.approx(sum(sent) / len(sent))
        message = Message("lm", budget)
        sent = [len(baselines.send_text(models, message, each)[0]) for each in questions]
        assert found[coded_names(budget)[2]] == pytest.approx(sum(sent) / len(sent))


def test_templates_are_not_timed(
    demo: tuple[LoadedPair, list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt is made outside the spans that are measured: between looks at the clock that
    bound one, nothing of `MessagePrompts` is called."""
    events: list[str] = []

    def look(device: torch.device) -> float:
        events.append("look")
        return float(len(events))

    def made(name: str) -> None:
        usual = getattr(MessagePrompts, name)

        def noting(*args: object) -> object:
            events.append(name)
            return usual(*args)

        monkeypatch.setattr(MessagePrompts, name, noting)

    monkeypatch.setattr(latency, "now_s", look)
    made("message")
    made("with_message")
    pair, questions = demo
    latency._by_text(pair, MessagePrompts(pair), questions[0])
    # The text as it is, and then coded by the receiver's model.
    reading = ["with_message", "look", "look", "look", "look", "look"] * len(BUDGETS)
    assert events == ["message", "look", "look", "look", *reading]


def test_times_are_taken_where_they_belong(
    demo: tuple[LoadedPair, list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that advances 1 s at each look: between two looks lies one thing."""
    clock = itertools.count()
    monkeypatch.setattr(latency, "now_s", lambda device: float(next(clock)))
    pair, questions = demo
    found = measure(pair, questions[:1])
    # The receiver's prompt has two looks within it, around the fuser.
    assert found["sharer_prefill_ms"] == 1000
    assert found["fuse_ms"] == found["letter_write_ms"] == 1000
    assert found["receiver_prefill_ms"] == 2000
    for budget in BUDGETS:
        write, reading, _ = text_names(budget)
        assert found[reading] == 1000
        assert 1000 < found[write] <= 2000  # the prompt, and that part of one second of writing
        encode, decode, _ = coded_names(budget)
        assert found[encode] == found[decode] == 1000


def test_a_code_that_is_not_read_as_it_was_has_no_time(
    demo: tuple[LoadedPair, list[Question]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> str:
        raise CodecError("the coded text is no text")

    for other in (lambda *_: "another", refuse):
        monkeypatch.setattr(latency.TextModel, "decode", other)
        found = measure(*demo)
        assert not any(name in found for budget in BUDGETS for name in coded_names(budget))
        assert {*text_names(8)} <= found.keys()
    assert "it has no time" in caplog.text
