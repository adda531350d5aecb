"""The fast path gives what the definition gives, whatever is batched with what."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import loaded_pair
from tiny import make_questions as real_questions
from torch import Tensor

import c2c.receiver
import c2c.sharer
from c2c.receiver import Prefilled
from latentwire.channel.registry import TENSORWISE as CODECS
from latentwire.condition import CONTROLS, Channel, Condition
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.pair import LoadedPair
from latentwire.evaluation.question import Question, by_length, derange
from latentwire.evaluation.record import Record

MakeQuestions = Callable[..., list[Question]]
ALONE = [Condition("receiver"), Condition("sharer")]
CUTS = [
    (ratio, order)
    for ratio in (0.0, 0.1, 0.5, 1.0)
    for order in ("front", "back")
    if (ratio, order) not in ((0.0, "back"), (1.0, "back"))
]
# Lengths that stand alone, that come twice, and that keep nothing at 0.1.
LENGTHS = [12, 2, 12, 23, 3, 12, 15, 23, 9]


def c2c_conditions(
    codecs: list[str], cuts: Any = CUTS, controls: Any = CONTROLS
) -> list[Condition]:
    return [
        Condition("c2c", Channel(codec, ratio, order), control)
        for codec in codecs
        for ratio, order in cuts
        for control in controls
    ]


class Logits:
    """The logits from which every decoding started, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Tensor] = []
        greedy = c2c.receiver.greedy

        def listening(model: Any, prefilled: Prefilled, *options: Any) -> list[list[int]]:
            self.seen.append(prefilled.logits.clone())
            return greedy(model, prefilled, *options)

        monkeypatch.setattr(c2c.receiver, "greedy", listening)  # what the pipeline calls
        monkeypatch.setattr(engine, "greedy", listening)

    def take(self) -> list[Tensor]:
        seen, self.seen = self.seen, []
        return seen


def agree(
    pair: LoadedPair,
    conditions: list[Condition],
    questions: list[Question],
    donors: list[Question],
    batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[Condition, list[Record]]:
    """Both ways: equal records (bytes too), and logits within 1e-4."""
    with monkeypatch.context() as patch:
        logits = Logits(patch)
        told: list[int] = []
        records = engine.evaluate(pair, conditions, questions, donors, batch_size, told.append)
        assert sum(told) == len(conditions) * len(questions)
        by_batch = iter(logits.take())
        ours: dict[tuple[Condition, int], Tensor] = {}
        for rows in by_length(questions).values():
            for start in range(0, len(rows), batch_size):
                for condition in conditions:
                    batch = next(by_batch)
                    for row, line in zip(rows[start : start + batch_size], batch, strict=True):
                        ours[condition, row] = line
        assert next(by_batch, None) is None
        assert list(records) == conditions
        for condition in conditions:
            for row, (question, donor) in enumerate(zip(questions, donors, strict=True)):
                record = pipeline.evaluate(pair, condition, question, donor)
                assert records[condition][row] == record, condition.label
                (theirs,) = logits.take()
                difference = float((ours[condition, row] - theirs[0]).abs().max())
                assert difference <= 1e-4, condition.label
    return records


def test_everything_at_every_keep_ratio_under_every_control(
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = questions(LENGTHS)
    conditions = ALONE + c2c_conditions(["int8"])
    records = agree(precise_pair, conditions, asked, derange(asked, 42), 2, monkeypatch)
    # The comparison would mean little if all answers were alike.
    outputs = Counter(record.output for kept in records.values() for record in kept)
    assert len(outputs) > 100
    ends = {record.generated_tokens for kept in records.values() for record in kept}
    assert len(ends) > 3
    matched, deranged, zero = (
        [r.output for r in records[Condition("c2c", Channel("int8"), control)]]
        for control in CONTROLS
    )
    assert matched != deranged and matched != zero and deranged != zero


@pytest.mark.parametrize("name", CODECS)
def test_every_codec(
    name: str,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = questions([11, 11, 14, 2])
    conditions = c2c_conditions(
        [name], [(1.0, "front"), (0.5, "back"), (0.1, "front")], ["matched"]
    )
    agree(precise_pair, conditions, asked, derange(asked, 1), 8, monkeypatch)


@pytest.mark.parametrize("seed", range(4))
def test_any_batch_size_order_and_donors(
    seed: int,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = random.Random(seed)
    asked = questions([generator.randrange(2, 16) for _ in range(8)], seed)
    # Donors of any length, longer and shorter ones.
    donors = [generator.choice(asked) for _ in asked]
    pool = ALONE + c2c_conditions(sorted(CODECS))
    conditions = generator.sample(pool, 6) + c2c_conditions(
        ["int4"], [(1.0, "front")], ["deranged"]
    )
    conditions = list(dict.fromkeys(conditions))
    size = generator.choice((1, 2, 3, 8))
    first = agree(precise_pair, conditions, asked, donors, size, monkeypatch)

    order = list(range(len(asked)))
    generator.shuffle(order)
    other = engine.evaluate(
        precise_pair,
        conditions[::-1],
        [asked[row] for row in order],
        [donors[row] for row in order],
        9 - size,
    )
    for condition in conditions:
        assert other[condition] == [first[condition][row] for row in order]


def test_real_prompts_in_the_dtype_of_use(
    pair: LoadedPair, short_answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = real_questions(pair.tokenizer, [1, 2, 2, 4])
    # A quantizer's code may fall to the other side of an edge in float32: see `precise_pair`.
    cuts = [(1.0, "front"), (0.1, "back")]
    conditions = ALONE + c2c_conditions(["fp32"], cuts, ["matched", "deranged"])
    agree(pair, conditions, asked, derange(asked, 42), 3, monkeypatch)


def test_the_whole_answer_is_decoded(precise_pair: LoadedPair, questions: MakeQuestions) -> None:
    pair = loaded_pair(torch.float64)
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    asked = questions([9])
    conditions = [*ALONE, Condition("c2c", Channel("int8"), "matched")]
    records = engine.evaluate(pair, conditions, asked, asked, 1)
    for condition in conditions:
        assert records[condition] == [pipeline.evaluate(pair, condition, asked[0], asked[0])]
        assert records[condition][0].generated_tokens == 64


def test_closed_gates_give_the_receivers_answers(
    questions: MakeQuestions, short_answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = loaded_pair(torch.float64, gates="closed")
    asked = questions([8, 8, 13])
    conditions = ALONE[:1] + c2c_conditions(["int4"])
    records = agree(pair, conditions, asked, derange(asked, 0), 4, monkeypatch)
    alone = [record.output for record in records[conditions[0]]]
    for condition in conditions[1:]:
        assert [record.output for record in records[condition]] == alone


def test_work_is_shared_between_conditions(
    pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = questions([10, 10, 10])
    donors = asked[1:] + asked[:1]
    reads: Counter[str] = Counter()
    read = c2c.sharer.read

    def counting(model: Any, token_ids: Tensor) -> Any:
        reads["receiver" if model is pair.receiver else "sharer"] += 1
        return read(model, token_ids)

    monkeypatch.setattr(c2c.sharer, "read", counting)
    conditions = ALONE + c2c_conditions(["bf16", "int8", "int4"])
    engine.evaluate(pair, conditions, asked, donors, 8)
    assert reads == {"receiver": 1, "sharer": 2}  # matched, and the donors' caches


def test_nothing_asked_gives_no_records(pair: LoadedPair, questions: MakeQuestions) -> None:
    assert engine.evaluate(pair, ALONE, [], [], 4) == {ALONE[0]: [], ALONE[1]: []}
    assert engine.evaluate(pair, [], questions([5]), questions([5]), 4) == {}


def test_logits_that_are_no_numbers_end_in_one_sentence(
    questions: MakeQuestions, short_answers: int
) -> None:
    pair = loaded_pair()
    with torch.no_grad():
        pair.fuser.projector(0).get_parameter("value_proj_out.bias").fill_(torch.inf)
    asked = questions([6, 6])
    broken = Condition("c2c", Channel("int8"), "matched")
    with pytest.raises(LatentWireError, match="c2c int8 full matched: a model gave logits that"):
        engine.evaluate(pair, [broken], asked, asked, 2)
    assert engine.evaluate(pair, ALONE, asked, asked, 2)
