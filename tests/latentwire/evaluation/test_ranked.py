"""Every selector and oracle: batches choose what the definition chooses, whatever is in them."""

from collections.abc import Callable, Sequence

import pytest
import torch
from agreement import agree
from chosen import PLAIN_CONTROLS
from hypothesis import given, settings
from hypothesis import strategies as st
from random_questions import SHORT, make_questions, private_questions, self_pair

from c2c.cache import KVCache
from latentwire.channel.oracles.registry import ORACLES
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.errors import LatentWireError
from latentwire.evaluation import batch, engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question, derange

MakeQuestions = Callable[..., list[Question]]
RATIOS = st.sampled_from([0.1, 0.25, 0.5, 0.9])
LENGTHS = st.lists(st.integers(2, 70), min_size=1, max_size=5)
ORDERS = [*SELECTORS, *ORACLES]
WHOLE_TOKENS = [name for name, selector in SELECTORS.items() if not selector.by_layer]


def same(
    pair: LoadedPair,
    channels: Sequence[Channel],
    control: str,
    asked: list[Question],
    batch_size: int,
) -> None:
    """Records, and so tokens and bytes, of every channel."""
    conditions = [Condition("c2c", each, control) for each in channels]
    donors = derange(asked, 42)
    found = engine.evaluate(pair, conditions, asked, donors, batch_size)
    for condition in conditions:
        for row, both in enumerate(zip(asked, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *both), both


@settings(max_examples=5)
@given(LENGTHS, RATIOS, st.sampled_from([*PLAIN_CONTROLS]), st.integers(1, 4), st.integers(0, 99))
def test_merged_in_float32(
    pair: LoadedPair, lengths: list[int], ratio: float, control: str, batch_size: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random_questions.TASK", SHORT)
        asked = make_questions(lengths, seed)
    channels = [Channel("fp32", ratio, order) for order in ORDERS]
    same(pair, channels, control, asked, batch_size)


@settings(max_examples=4)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 9)), min_size=1, max_size=5),
    RATIOS,
    st.sampled_from([*PLAIN_CONTROLS]),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_inserted_in_float32(
    sizes: list[tuple[int, int]], ratio: float, control: str, batch_size: int, seed: int
) -> None:
    channels = [Channel("fp32", ratio, order) for order in WHOLE_TOKENS]
    same(self_pair(), channels, control, private_questions(sizes, seed), batch_size)


def test_with_codecs(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions([50, 9, 23, 2, 41])
    conditions = [
        Condition("c2c", Channel(codec, 0.3, order), control)
        for order in ORDERS
        for codec, control in (("int4", "matched"), ("int8", "deranged"))
    ]
    records = agree(precise_pair, conditions[::-1], asked, derange(asked, 1), 3)
    sent = {tuple(r.output for r in records[condition]) for condition in conditions}
    assert len(sent) > len(ORDERS)


def test_a_batch_is_ranked_once_and_again_for_no_budget(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("vnorm", "snapkv_by_layer"):
        order = SELECTORS[name].order  # type: ignore[attr-defined]

        def counted(
            *arguments: object, order: Callable[..., object] = order, name: str = name
        ) -> object:
            calls.append(name)
            return order(*arguments)

        monkeypatch.setattr(SELECTORS[name], "order", counted)
    conditions = [
        Condition("c2c", Channel(codec, ratio, name), "matched")
        for codec in ("int8", "int4")
        for ratio in (0.5, 0.25, 0.1)
        for name in ("vnorm", "snapkv_by_layer")
    ]
    asked = questions([20, 31, 12, 9])
    engine.evaluate(pair, conditions, asked, asked, 4)
    assert sorted(calls) == ["snapkv_by_layer", "vnorm"]


@pytest.mark.parametrize(("order", "kept"), [("vnorm", False), ("snapkv", True)])
def test_queries_are_kept_only_where_a_condition_asks(
    order: str,
    kept: bool,
    pair: LoadedPair,
    questions: MakeQuestions,
    short_answers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    choose = batch.choose_each

    def looking(
        pair: LoadedPair,
        channel: Channel,
        cache: KVCache,
        examples: list[tuple[KVCache, object]],
        *_: object,
    ) -> list[Positions]:
        seen.extend(bool(own.queries) for own, _ in examples)
        return choose(pair, channel, cache, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "choose_each", looking)
    asked = questions([9, 12])
    engine.evaluate(pair, [Condition("c2c", Channel("int8", 0.5, order), "matched")], asked, asked)
    assert seen == [kept, kept]


@pytest.mark.parametrize("order", ORACLES)
def test_an_oracle_is_refused_where_nothing_is_merged(order: str) -> None:
    (question,) = private_questions([(9, 4)])
    condition = Condition("c2c", Channel("int8", 0.5, order), "matched")
    for run in (
        lambda: engine.evaluate(self_pair(), [condition], [question], [question]),
        lambda: pipeline.evaluate(self_pair(), condition, question, question),
    ):
        with pytest.raises(LatentWireError, match="take another order"):
            run()


def test_an_oracle_knows_the_receiver_and_a_selector_does_not(
    pair: LoadedPair, questions: MakeQuestions
) -> None:
    """Its choice of the same message differs with who is to receive it."""
    first, second = questions([40, 40])
    for order, differs in [*((name, True) for name in ORACLES), ("vnorm_by_layer", False)]:
        channel = Channel("fp32", 0.25, order)
        packets = [
            pipeline.send(pair, channel, question, second, "deranged")
            for question in (first, second)
        ]
        kept = [
            pair.endpoint.receive(packet, 40, torch.float32, torch.device("cpu"))[0].kept
            for packet in packets
        ]
        assert (kept[0] != kept[1]) == differs
