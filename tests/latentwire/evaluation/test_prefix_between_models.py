"""The interface `prefix` between two models of different shapes, by a projector."""

from dataclasses import replace
from itertools import cycle

import private_task
import pytest
import torch
from random_questions import private_questions as asked
from random_questions import stopping
from tiny import make_tokenizer, randomize
from toy_prefix import toy_parts
from two_tokenizers import first_tokenizer, second_tokenizer

from c2c.prefix_projector import ProjectedPrefix
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.evaluation import codec_measurement, engine, latency, latency_names, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import sharers_text
from latentwire.spec.condition import Channel, Condition, Message
from latentwire.tasks.passage import PassageExample
from latentwire.tasks.question import derange, tokenize
from latentwire.tasks.task import Task

CHANNELS = [
    Channel("fp32"),
    Channel("int4"),
    Channel("kivi4", 0.5, "back"),
    *(
        Channel("int8", ratio, name)
        for name, ratio in zip(SELECTORS, cycle((0.6, 0.2)), strict=False)
        if not SELECTORS[name].by_layer
    ),
    Channel("fp32", 0.0),
]


class InTurns(private_task.WithPassage):
    """The evidence is a turn of its own, by the template of who reads it."""

    prompts = Task.prompts


def two_models(dtype: torch.dtype) -> LoadedPair:
    """A projector with random weights, so that what arrives is seen by all of them."""
    receiver, sharer, prefix = toy_parts()
    randomize(prefix, seed=3)
    prefix.eval()
    endpoint = Endpoint.of(prefix, b"12345678")
    parts = (receiver.to(dtype), sharer.to(dtype), prefix.to(dtype))
    return stopping(LoadedPair(*parts, make_tokenizer(), endpoint))


def test_every_condition_in_batches_is_the_definitions() -> None:
    """In float64, since batches of other shapes round otherwise."""
    pair = two_models(torch.float64)
    questions = asked([(30, 5), (0, 9), (7, 12), (19, 1), (3, 6)])
    donors = derange(questions, 42)
    controls = ("matched", "deranged", "zero")
    sent = [Condition("c2c", c, control) for c in CHANNELS for control in controls]
    conditions = [Condition("receiver"), Condition("sharer"), *sent]
    found = engine.evaluate(pair, conditions, questions, donors, 3)
    for condition in conditions:
        for row, both in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *both)
    outputs = {
        condition: tuple(record.output for record in found[condition])
        for condition in (conditions[0], *sent[:3])
    }
    assert len({*outputs.values()}) == 4  # nothing, own, another's and zeros
    # Layers that no projector reads are not sent.
    assert isinstance(pair.interface, ProjectedPrefix)
    read = pair.interface.layers_read("key")
    assert pair.endpoint.key_layers == pair.endpoint.value_layers == read == (0, 1)


@pytest.mark.parametrize("first_receives", [True, False])
def test_each_model_reads_in_its_own_tokens(first_receives: bool) -> None:
    """With a tokenizer at each end, nothing being aligned."""
    both = (first_tokenizer(), second_tokenizer())[:: 1 if first_receives else -1]
    made = two_models(torch.float64)
    pair = replace(made, tokenizer=both[0], sharer_tokenizer=both[1])
    passages = ("The box is red.", "A hat, blue and old, é🙂.", "My cat is grey.")
    examples = [
        PassageExample(f"{n}", n, "Which colour?", (), "red", passages[n // 2]) for n in range(5)
    ]
    task = InTurns(**{**vars(private_task.TASK), "max_new_tokens": 6})
    questions = tokenize(task, examples, *both)
    donors = derange(questions, 42)
    channels = (Channel("fp32"), Channel("int4", 0.5, "back"))
    sent = [Condition("c2c", c, name) for c in channels for name in ("matched", "deranged")]
    conditions = [Condition("receiver"), Condition("sharer"), *sent]
    found = engine.evaluate(pair, conditions, questions, donors, 3)
    for condition in conditions:
        for row, asked_and_lent in enumerate(zip(questions, donors, strict=True)):
            assert found[condition][row] == pipeline.evaluate(pair, condition, *asked_and_lent)
    whole = Condition("text", None, "matched", message=Message("utf8", 1000))
    texts = engine.evaluate(pair, [whole], questions, donors, 3)[whole]
    for question, record, text in zip(questions, found[conditions[1]], texts, strict=True):
        own, theirs = (question.task.prompts(question.example, each) for each in both)
        assert question.prompts.private and own.sharer_ids != theirs.sharer_ids
        assert record.prompt_tokens == len(theirs.sharer_ids) + len(theirs.receiver_ids)
        # The evidence as text is what the receiver would make of it, in no tokens of the other's.
        assert text.prompt_tokens == len(own.sharer_ids) + len(own.receiver_ids)
        told = sharers_text(pair.interface, question)
        assert told.ids == (*theirs.sharer_ids, theirs.sharer_ids[0])
        packet = pipeline.send(pair, channels[0], question, question, "matched")
        layout, _ = pair.endpoint.receive(packet, 1000, pair.dtype, pair.device)
        assert layout.kept.end == len(theirs.sharer_ids)
    assert latency.measure(pair, questions[:1])[latency_names.EVIDENCE_READ] > 0


def test_where_a_token_stood_is_where_its_key_is_turned_to() -> None:
    """Of a text that is sent from its back, the last tokens are at its end."""
    pair = two_models(torch.float32)
    (question,) = asked([(12, 4)])
    packet = pipeline.send(pair, Channel("fp32", 0.25, "back"), question, question, "matched")
    prefilled = pipeline.prefill(pair, question, packet)
    layout, received = pair.endpoint.receive(packet, 13, pair.dtype, pair.device)
    assert layout.positions().tolist() == [9, 10, 11]
    wanted = pair.interface.prepare(received, torch.tensor([9, 10, 11]))
    assert wanted is not None
    for layer, key in zip(prefilled.cache.layers, wanted.keys, strict=True):
        assert torch.equal(layer.keys[:, :, :3], key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_and_times_are_measured(dtype: torch.dtype) -> None:
    pair = two_models(dtype)
    questions = asked([(30, 5), (7, 9)])
    whole = "fp32" if dtype == torch.float32 else "bf16"
    assert codec_measurement.measure(pair, Channel(whole), questions)[0].kl_nats_mean == 0
    assert codec_measurement.measure(pair, Channel("int2"), questions)[0].kl_nats_mean > 0
    assert latency.measure(pair, questions[:1])[latency_names.SHARER_PREFILL] > 0
