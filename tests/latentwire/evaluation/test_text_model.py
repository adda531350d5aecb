"""Text coded by the receiver's model: read back as it was, in as few bytes as it is likely."""

import contextlib
import math
import random

import pytest
import torch

from latentwire.channel.codec import CodecError
from latentwire.errors import Unanswerable
from latentwire.evaluation import text_model
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.text_model import TextModel
from latentwire.pairs.load import load_pair
from latentwire.parameters import STUDY, checked
from latentwire.session.configuration import Configuration
from latentwire.session.session import Session

CONTEXT = (3, 5, 8)


@pytest.fixture(scope="module", params=["demo", "demo_self"])
def session(request: pytest.FixtureRequest) -> Session:
    raw = {"pair": request.param, "device": "cpu"}
    values = checked(STUDY, {p.name: raw.get(p.name, p.default) for p in STUDY})
    pair = load_pair(request.param)
    return Session.of(Configuration(values, pair, "cpu", "float32"), store=None)  # type: ignore[arg-type]


@pytest.fixture
def coder(session: Session) -> TextModel:
    return TextModel(session.loaded)


@pytest.fixture(scope="module")
def prose(session: Session) -> str:
    """Of a question's prompt, in the words that the bundled models know."""
    question = session.asked(session.dataset_names[0])[0]
    return question.task.prompt_text(question.example)[:90]


def ideal_bits(pair: LoadedPair, context: tuple[int, ...], tokens: list[int]) -> float:
    """What the model's probabilities say, each token in a call of its own; 63 of 64 go on."""
    bits = 6.0  # the end
    for place, token in enumerate(tokens):
        ids = torch.tensor([[*context, *tokens[:place]]])
        with torch.inference_mode():
            line = pair.receiver(ids).logits[0, -1].double().log_softmax(-1)
        bits -= float(line[token]) / math.log(2) + math.log2(63 / 64)
    return bits


def test_a_text_is_read_back_in_the_bytes_that_the_model_says(
    coder: TextModel, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_model, "PIECE", 7)  # several pieces, the last not full
    tokens = coder.pair.tokenizer.encode(prose, add_special_tokens=False)
    assert len(tokens) > 14 and len(tokens) % 7
    packet, arrived = coder.encode(CONTEXT, prose)
    assert arrived == prose and coder.decode(CONTEXT, packet) == prose
    assert TextModel(coder.pair).decode(CONTEXT, packet) == prose  # with nothing known
    ideal = ideal_bits(coder.pair, CONTEXT, tokens)
    assert ideal - 1 <= 8 * len(packet) <= ideal + 12
    assert len(packet) < len(prose.encode())


def test_reading_asks_the_model_once_a_token(
    coder: TextModel, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces that are whole stay in the cache."""
    monkeypatch.setattr(text_model, "FIRST_PIECE", 5)
    monkeypatch.setattr(text_model, "PIECE", 7)
    packet, _ = coder.encode(CONTEXT, prose)
    asked: list[int] = []
    ask = text_model._Pieces.ask
    monkeypatch.setattr(
        text_model._Pieces, "ask", lambda self, piece: asked.append(len(piece)) or ask(self, piece)
    )
    assert coder.decode(CONTEXT, packet) == prose  # which the coder need not code again
    tokens = len(coder.pair.tokenizer.encode(prose, add_special_tokens=False))
    behind = (count % 7 + 1 for count in range(tokens - 6))
    assert asked == [*range(6), *behind] and tokens > 5 + 7


def test_what_is_known_before_matters_to_both_ends(coder: TextModel, prose: str) -> None:
    packet, _ = coder.encode(CONTEXT, prose)
    with contextlib.suppress(CodecError, Unanswerable):
        assert coder.decode((9, 9, 9, 9), packet) != prose


def test_the_question_is_known_where_both_models_read_it(session: Session) -> None:
    question = session.asked(session.dataset_names[0])[0]
    known = TextModel(session.loaded).context(question)
    assert known == question.prompts.receiver_ids or question.prompts.private
    assert len(known) == 1 or not question.prompts.private


@pytest.mark.parametrize("text", ["", "a", "zebra \N{GREEK SMALL LETTER OMEGA}\N{SNOWMAN}", "\0\n"])
def test_any_text_arrives(coder: TextModel, text: str) -> None:
    packet, arrived = coder.encode(CONTEXT, text)
    assert arrived == text == coder.decode(CONTEXT, packet)
    assert len(packet) <= len(text.encode()) + 1 and (packet == b"") == (text == "")


def test_a_budget_holds_as_many_tokens_as_fit(coder: TextModel, prose: str) -> None:
    whole, _ = coder.encode(CONTEXT, prose)
    lengths = []
    for most in (1, 5, len(whole) - 1, len(whole), len(whole) + 9):
        packet, arrived = coder.encode(CONTEXT, prose, most)
        assert len(packet) <= most and prose.startswith(arrived)
        assert TextModel(coder.pair).decode(CONTEXT, packet) == arrived
        lengths.append(len(arrived))
    assert lengths == sorted(lengths) and lengths[-1] == lengths[-2] == len(prose) > lengths[-3]


def test_the_beginning_of_a_known_text_is_coded_without_the_model(
    coder: TextModel, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_model, "PIECE", 7)
    tokens = coder.pair.tokenizer.encode(prose, add_special_tokens=False)
    shorter = [coder.pair.tokenizer.decode(tokens[:count]) for count in (3, 9, 14)]
    alone = [TextModel(coder.pair).encode(CONTEXT, text) for text in shorter]
    coder.encode(CONTEXT, prose)
    monkeypatch.setattr(TextModel, "_packets", lambda *asked: pytest.fail("the model is asked"))
    assert [coder.encode(CONTEXT, text) for text in shorter] == alone


def test_any_bytes_are_a_text_or_refused(coder: TextModel) -> None:
    generator, refused = random.Random(3), 0
    for size in (1, 1, 2, 4):
        try:
            text = coder.decode(CONTEXT, generator.randbytes(size))
            assert coder.encode(CONTEXT, text)[1] == text
        except (CodecError, Unanswerable):
            refused += 1
    assert refused


def test_a_text_longer_than_the_models_context_is_unanswerable(
    coder: TextModel, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coder.pair.receiver.config, "max_position_embeddings", 8)
    with pytest.raises(Unanswerable, match="longer than the 8 positions"):
        coder.encode(CONTEXT, prose)
