"""The fast path gives what the definition gives, whatever is batched with what."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from agreement import agree, first_logits_of_pipeline, prompts_read_once
from chosen import PLAIN_CONTROLS
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from random_questions import SHORT, make_questions, stopping
from tiny import loaded_pair, make_fuser, make_model, make_tokenizer
from tiny import make_questions as real_questions
from torch import Tensor

from c2c import batched_decoding
from c2c.fuser import Fuser
from c2c.slot_cache import ATTENTION
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.registry import PER_TENSOR as CODECS
from latentwire.errors import LatentWireError
from latentwire.evaluation import batch, engine, memory, pipeline, room
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.record import Record
from latentwire.evaluation.unanswerable import NOT_FINITE
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange

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
    codecs: list[str], cuts: Any = CUTS, controls: Any = PLAIN_CONTROLS
) -> list[Condition]:
    return [
        Condition("c2c", Channel(codec, ratio, order), control)
        for codec in codecs
        for ratio, order in cuts
        for control in controls
    ]


@pytest.mark.slow
def test_everything_at_every_keep_ratio_under_every_control(
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
) -> None:
    asked = questions(LENGTHS)
    conditions = ALONE + c2c_conditions(["int8"])
    records = agree(precise_pair, conditions, asked, derange(asked, 42), 2)
    # The comparison would mean little if all answers were alike.
    outputs = Counter(record.output for kept in records.values() for record in kept)
    assert len(outputs) > 100
    ends = {record.generated_tokens for kept in records.values() for record in kept}
    assert len(ends) > 3
    matched, deranged, zero = (
        [r.output for r in records[Condition("c2c", Channel("int8"), control)]]
        for control in ("matched", "deranged", "zero")
    )
    assert matched != deranged and matched != zero and deranged != zero


@pytest.mark.parametrize("name", CODECS)
def test_every_codec(
    name: str,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
) -> None:
    asked = questions([11, 11, 14, 2])
    conditions = c2c_conditions(
        [name], [(1.0, "front"), (0.5, "back"), (0.1, "front")], ["matched"]
    )
    agree(precise_pair, conditions, asked, derange(asked, 1), 8)


@pytest.mark.parametrize("seed", range(4))
def test_any_batch_size_order_and_donors(
    seed: int,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
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
    first = agree(precise_pair, conditions, asked, donors, size)

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


def test_several_donors_of_which_each_prompt_is_read_once(
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = questions([9, 9, 9, 9, 6])
    donors = {number: derange(asked, 42, number) for number in (1, 2, 3)}
    lent = [
        replace(condition, donor=number)
        for condition in c2c_conditions(["int8"], [(1.0, "front"), (0.5, "back")], ["deranged"])
        for number in donors
    ]
    matched = c2c_conditions(["int8"], [(1.0, "front")], ["matched"])
    read = count_prompts_read(monkeypatch)
    records = agree(precise_pair, [*ALONE, *matched, *lent], asked, donors, 5)
    assert read == {"sharer": 5, "receiver": 5}
    for condition in lent:
        of_number = donors[condition.donor]
        assert [r.donor_id for r in records[condition]] == [d.example.id for d in of_number]
        # The lone length borrows from the other, which has enough.
        assert [r.donor_tokens for r in records[condition]] == [None] * 4 + [9]
    outputs = {tuple(r.output for r in records[condition]) for condition in [*matched, *lent[:3]]}
    assert len(outputs) == 4


def count_prompts_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many prompts each model reads in batches, from now on."""
    found: Counter[str] = Counter()
    read = batch.Batch.read

    def counting(self: Any, name: str, prompts: Any, queries: bool = False) -> Any:
        found[name] += len(prompts)
        return read(self, name, prompts, queries)

    monkeypatch.setattr(batch.Batch, "read", counting)
    return found


def test_real_prompts_in_the_dtype_of_use(pair: LoadedPair, short_answers: int) -> None:
    asked = real_questions(pair.tokenizer, [1, 2, 2, 4])
    # A quantizer's code may fall to the other side of an edge in float32: see `precise_pair`.
    cuts = [(1.0, "front"), (0.1, "back")]
    conditions = ALONE + c2c_conditions(["fp32"], cuts, ["matched", "deranged"])
    agree(pair, conditions, asked, derange(asked, 42), 3)


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
    questions: MakeQuestions, short_answers: int
) -> None:
    pair = loaded_pair(torch.float64, gates="closed")
    asked = questions([8, 8, 13])
    conditions = ALONE[:1] + c2c_conditions(["int4"])
    records = agree(pair, conditions, asked, derange(asked, 0), 4)
    alone = [record.output for record in records[conditions[0]]]
    for condition in conditions[1:]:
        assert [record.output for record in records[condition]] == alone


def test_work_is_shared_between_conditions(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions([10, 8, 10])
    lent = questions([9, 11], seed=1)
    donors = [lent[0], asked[0], lent[1]]
    read: dict[str, list[tuple[int, int]]] = {"receiver": [], "sharer": []}
    passes = batch.read

    def counting(model: Any, token_ids: Tensor, lengths: list[int], *rest: Any) -> None:
        name = "receiver" if model is pair.receiver else "sharer"
        read[name].append((len(lengths), max(lengths)))
        passes(model, token_ids, lengths, *rest)

    monkeypatch.setattr(batch, "read", counting)
    conditions = ALONE + c2c_conditions(["bf16", "int8", "int4"])
    engine.evaluate(pair, conditions, asked, donors, 8)
    # One pass each; the question that is also lent is not read twice.
    assert read == {"receiver": [(3, 9)], "sharer": [(5, 10)]}
    engine.evaluate(pair, ALONE[:1], asked, donors, 8)
    assert len(read["sharer"]) == 1


def test_codecs_are_run_once_for_all_examples_of_a_batch(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, int]] = []
    through = Endpoint.simulate_each

    def counting(endpoint: Endpoint, channels: Any, cache: Any, chosen: Any) -> Any:
        runs.extend((channel.codec, len(chosen)) for channel in channels)
        return through(endpoint, channels, cache, chosen)

    monkeypatch.setattr(Endpoint, "simulate_each", counting)
    asked = questions([10, 8, 10, 5])
    conditions = c2c_conditions(["int8", "int4"], [(1.0, "front")], ["matched"])
    engine.evaluate(pair, conditions, asked, asked, 8)
    assert runs == [("int8", 4), ("int4", 4)]


def test_the_models_attend_as_before_afterwards(
    questions: MakeQuestions, short_answers: int
) -> None:
    pair = loaded_pair()
    before = pair.receiver.config._attn_implementation
    assert before != ATTENTION
    engine.evaluate(pair, ALONE, questions([6]), questions([6]), 2)
    assert pair.receiver.config._attn_implementation == before
    with torch.no_grad():
        pair.receiver.lm_head.weight.fill_(torch.nan)
    found = engine.evaluate(pair, ALONE, questions([6]), questions([6]), 2)
    assert [found[c][0].unanswered for c in ALONE] == [NOT_FINITE, None]
    assert pair.receiver.config._attn_implementation == before
    assert pair.sharer.config._attn_implementation == before


@examples(few=12, many=25)
@given(data=st.data())
def test_any_subset_of_conditions_in_any_order_gives_equal_records(data: st.DataObject) -> None:
    pair, asked, donors, pool, reference = _reference()
    chosen = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6, unique=True))
    rows = data.draw(st.lists(st.sampled_from(range(len(asked))), min_size=1, unique=True))
    size = data.draw(st.sampled_from([None, 1, 2, 3, 8]))
    records = engine.evaluate(
        pair, chosen, [asked[row] for row in rows], [donors[row] for row in rows], size
    )
    with prompts_read_once():
        assert records == {c: [reference(c, row) for row in rows] for c in chosen}


@cache
def _reference() -> Any:
    """Questions, conditions, and what gives the definition's records, each computed once."""
    pair = stopping(loaded_pair(torch.float64))
    asked = [replace(q, task=SHORT) for q in make_questions([2, 17, 5, 11, 11, 30], seed=9)]
    donors = [asked[row] for row in (1, 2, 5, 0, 3, 4)]
    pool = ALONE + c2c_conditions(["int8", "mxfp4"], [(1.0, "front"), (0.1, "back")])
    pool += c2c_conditions(["int4", "fp16"], [(0.5, "front"), (0.25, "front"), (0.75, "back")])

    @cache
    def reference(condition: Condition, row: int) -> Record:
        return pipeline.evaluate(pair, condition, asked[row], donors[row])

    return pair, asked, donors, pool, reference


@pytest.mark.parametrize(
    ("receiver", "sharer"),
    [("llama", "gemma3"), ("gemma3", "llama"), ("qwen2", "qwen3"), ("gemma3", "gemma3")],
)
def test_other_architectures(
    receiver: str, sharer: str, questions: MakeQuestions, short_answers: int
) -> None:
    pair = stopping(pair_of(receiver, sharer, torch.float64))
    asked = questions([4, 25, 9, 16, 25])  # shorter and longer than Gemma's window
    conditions = ALONE + c2c_conditions(
        ["int8"], [(1.0, "front"), (0.5, "front"), (0.3, "back")], ["matched", "deranged"]
    )
    agree(pair, conditions, asked, asked[1:] + asked[:1], 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype: torch.dtype, questions: MakeQuestions, short_answers: int) -> None:
    pair = stopping(loaded_pair(dtype))
    asked = questions([4, 25, 9, 16])
    # Every cut under every control is compared above, in a dtype that rounds less.
    cuts, controls = [(1.0, "front"), (0.5, "back")], ["matched", "deranged"]
    conditions = ALONE + c2c_conditions(["bf16", "int4"], cuts, controls)
    ours: dict[tuple[Condition, int], Tensor] = {}
    records = engine.evaluate(
        pair,
        conditions,
        asked,
        asked[1:] + asked[:1],
        3,
        on_first_logits=lambda c, row, logits: ours.__setitem__((c, row), logits.float()),
    )
    # Rounding decides between tokens here; what is sent does not depend on it, nor the scale.
    for condition in conditions:
        for row, question in enumerate(asked):
            donor = asked[(row + 1) % len(asked)]
            record, theirs = first_logits_of_pipeline(pair, condition, question, donor)
            assert records[condition][row].wire_bytes == record.wire_bytes
            distance = (ours[condition, row] - theirs.float()).norm() / theirs.float().norm()
            assert distance < (0.3 if condition.channel else 0.05), condition.label


def pair_of(receiver: str, sharer: str, dtype: torch.dtype) -> LoadedPair:
    models = make_model(receiver, seed=5), make_model(sharer, seed=6)
    fuser = make_fuser(models[1], models[0], seed=7)
    return LoadedPair(
        models[0].to(dtype),
        models[1].to(dtype),
        fuser.to(dtype),
        make_tokenizer(),
        Endpoint.of(fuser, b"12345678"),
    )


SCARCE_LENGTHS = [10, 8, 10, 5, 21]
SCARCE_CONDITIONS = ALONE + c2c_conditions(
    ["int8", "bf16"], [(1.0, "front"), (0.5, "front")], ["matched", "deranged"]
)


@pytest.fixture(scope="module")
def in_one_batch(precise_pair: LoadedPair) -> dict[Condition, list[Record]]:
    """What those questions' records are where memory suffices."""
    asked = [replace(question, task=SHORT) for question in make_questions(SCARCE_LENGTHS)]
    return engine.evaluate(precise_pair, SCARCE_CONDITIONS, asked, asked, 8)


@pytest.mark.parametrize("most_rows", [1, 5, 17])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_memory_that_runs_out_halves_the_batch(
    most_rows: int,
    batch_size: int | None,
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    in_one_batch: dict[Condition, list[Record]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked, conditions = questions(SCARCE_LENGTHS), SCARCE_CONDITIONS
    make = batched_decoding.Decoder.__init__

    def scarce(self: Any, model: Any, rows: int, *rest: Any) -> None:
        if rows > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        make(self, model, rows, *rest)

    monkeypatch.setattr(batched_decoding.Decoder, "__init__", scarce)
    told: list[int] = []
    with caplog.at_level("WARNING", logger="latentwire"):
        records = engine.evaluate(precise_pair, conditions, asked, asked, batch_size, told.append)
    assert records == in_one_batch
    assert all(done > 0 for done in told) and sum(told) == len(conditions) * len(asked)
    assert "out of memory: going on with" in caplog.text


@pytest.mark.slow
def test_memory_that_runs_out_at_any_time(
    precise_pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when some conditions of a batch are done already and others are not."""
    asked = questions([10, 8, 10, 5, 21, 7])
    conditions = ALONE + c2c_conditions(["int8"], [(1.0, "front"), (0.5, "front")])
    expected = engine.evaluate(precise_pair, conditions, asked, asked, 8)
    for seed in range(6):
        generator, failures = random.Random(seed), 0

        def unlucky(*arguments: Any, generator: Any = generator) -> Any:
            nonlocal failures
            if failures < 6 and generator.random() < 0.5:
                failures += 1
                raise torch.OutOfMemoryError
            return batch.answer(*arguments)

        monkeypatch.setattr(engine, "answer", unlucky)
        # With a split of conditions that outlives the single examples it was made for.
        monkeypatch.setattr(
            engine,
            "shrink_batch",
            lambda device, examples, conditions: (max(1, examples // 2), max(1, conditions // 2)),
        )
        told: list[int] = []
        size = generator.choice((None, 5, 7))
        records = engine.evaluate(precise_pair, conditions, asked, asked, size, told.append)
        assert records == expected and sum(told) == len(asked) * len(conditions)


def test_one_row_too_many_ends_in_one_sentence(
    pair: LoadedPair, questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(batched_decoding, "new_slots", full)
    with pytest.raises(LatentWireError, match="device cpu has not enough memory for a batch of"):
        engine.evaluate(pair, ALONE, questions([5, 6]), questions([5, 6]), None)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    pair: LoadedPair, questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(batched_decoding, "new_slots", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.evaluate(pair, ALONE, questions([5]), questions([5]), None)


def test_calls_may_share_their_buffers(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    work = engine.Workspace(precise_pair)
    conditions = ALONE + c2c_conditions(["int8"], [(1.0, "front"), (0.5, "front")])
    for seed, lengths in enumerate([[9, 30, 4], [70, 5], [12, 12, 12, 12], [7]]):
        asked = questions(lengths, seed)
        for some in (conditions, conditions[::2]):
            together = engine.evaluate(precise_pair, some, asked, asked, work=work)
            assert together == engine.evaluate(precise_pair, some, asked, asked)


def test_how_much_goes_together_is_logged(
    pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conditions = ALONE + c2c_conditions(["int8"])
    monkeypatch.setattr(memory, "PLAIN_BYTES", 2 * room.example_bytes(pair, conditions, 128))
    asked, sizes = questions([128 - short_answers, 7, 6, 5, 5]), []
    with caplog.at_level("INFO", logger="latentwire"):
        engine.evaluate(pair, conditions, asked, asked, None, sizes.append)
    assert f"under {len(conditions)} conditions: 2 together" in caplog.text
    # Two with the longest; of the others, which are short, as many as there are.
    assert sizes == [2] * len(conditions) + [3] * len(conditions)


def test_a_prompt_of_one_token(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions([1, 4, 1])
    agree(precise_pair, ALONE, asked, asked, 3)
    conditions = c2c_conditions(["int8"], [(1.0, "front")])
    found = engine.evaluate(precise_pair, conditions, asked, asked, 3)
    for condition in conditions:
        assert found[condition] == [
            pipeline.evaluate(precise_pair, condition, question, question) for question in asked
        ]
        short, long, _ = found[condition]
        assert short.unanswered is not None and "at least two tokens" in short.unanswered
        assert long.unanswered is None and long.wire_bytes > 0


def test_forced_lengths_are_kept_to(pair: LoadedPair, questions: MakeQuestions) -> None:
    asked = questions([5, 9, 7])
    conditions = [*ALONE, Condition("c2c", Channel("int8"), "matched")]
    forced_lengths = {
        c: [(7 * i + 3 * row) % 65 for row in range(3)] for i, c in enumerate(conditions)
    }
    records = engine.evaluate(pair, conditions, asked, asked, 2, forced_lengths=forced_lengths)
    for condition in conditions:
        assert [r.generated_tokens for r in records[condition]] == forced_lengths[condition]


def test_nothing_asked_gives_no_records(pair: LoadedPair, questions: MakeQuestions) -> None:
    assert engine.evaluate(pair, ALONE, [], [], 4) == {ALONE[0]: [], ALONE[1]: []}
    assert engine.evaluate(pair, [], questions([5]), questions([5]), 4) == {}


def test_logits_that_are_no_numbers_are_answered_by_nobody(
    questions: MakeQuestions, short_answers: int
) -> None:
    pair = loaded_pair()
    with torch.no_grad():
        assert isinstance(pair.interface, Fuser)
        pair.interface.projector(0).get_parameter("value_proj_out.bias").fill_(torch.inf)
    asked = questions([6, 6])
    broken = Condition("c2c", Channel("int8"), "matched")
    records = engine.evaluate(pair, [broken, *ALONE], asked, asked, 2)
    for record in records[broken]:
        assert record.unanswered is not None
        assert record.unanswered.startswith("a model gave logits that are NaN or infinite")
        assert not record.correct
    alone = engine.evaluate(pair, ALONE, asked, asked, 2)
    assert {condition: records[condition] for condition in ALONE} == alone
