"""Questions in token ids of any length, for pairs of which every eighth token ends an answer."""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from tiny import VOCABULARY, make_model, make_tokenizer

from c2c.cache import geometry
from latentwire.channel.endpoint import Endpoint
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.interfaces.registry import without_weights
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.question import Question
from latentwire.tasks.task import Example, Prompts

# Every eighth token ends an answer, so that answers end at different steps.
STOPS = list(range(2, VOCABULARY, 8))
NEW_TOKENS = 5
SHORT = replace(TASK, max_new_tokens=NEW_TOKENS)


def stopping(pair: LoadedPair) -> LoadedPair:
    """The pair, its answers ending early and at different steps."""
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = STOPS
    return pair


def self_pair(architecture: str = "qwen3", dtype: torch.dtype = torch.float32) -> LoadedPair:
    """One model at both ends, and the interface `prefix`."""
    model = make_model(architecture, seed=5).to(dtype)
    model.generation_config.eos_token_id = STOPS
    shape = geometry(model.config)
    interface = without_weights("prefix", shape, shape)
    return LoadedPair(
        model, model, interface, make_tokenizer(), Endpoint.of(interface, b"12345678")
    )


def make_questions(lengths: list[int], seed: int = 0) -> list[Question]:
    """Questions whose prompts are random tokens, so many each."""
    generator = random.Random(seed)
    prompts = [
        tuple(generator.randrange(3, VOCABULARY) for _ in range(length)) for length in lengths
    ]
    return [
        Question(
            TASK,
            Example(f"set:{index}", index, "q", ("a", "b", "c", "d"), "ABCD"[index % 4]),
            Prompts(ids, ids),
        )
        for index, ids in enumerate(prompts)
    ]


def private_questions(sizes: Sequence[tuple[int, int]], seed: int = 0) -> list[Question]:
    """Questions of random tokens, by the lengths of (evidence, question); 0 is the evidence of the
    question before."""
    generator, evidence = random.Random(seed), ()
    questions = []

    def some(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(3, VOCABULARY) for _ in range(count))

    for index, (sharer, receiver) in enumerate(sizes):
        evidence = some(sharer) or evidence
        example = Example(f"private:{index}", index, "q", (), "A")
        questions.append(Question(SHORT, example, Prompts(evidence, some(receiver))))
    return questions
