"""What the pair scores: its two models alone, and the receiver under many caches.

Every prompt of a set has the same number of tokens, so a set is a few plain batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from c2c.cache import KVCache
from c2c.fuser import Fuser
from c2c.quantize import round_trip
from c2c.receiver import Fuse, greedy, prefill
from c2c.sections import Section, split
from c2c.sharer import read
from latentwire.tasks.dataset import parse_examples
from latentwire.tasks.demo_graded import TASK
from latentwire.tasks.question import derange, tokenize
from tools.demo_pair.questions import DERANGEMENT_SEED

BATCH = 750
MAX_NEW_TOKENS = 8

Letters = list[str | None]
"""One answer a question; None where none could be read."""


@dataclass(frozen=True)
class Condition:
    """What the receiver gets of the sharer's cache."""

    control: str = "matched"
    """`matched`: the question's own cache; `deranged`: another question's; `zero`: zeros."""
    bits: int | None = None
    """Of the protocol's quantizer, one scale a KV head; None: not quantized."""
    keep_ratio: float = 1.0
    order: str = "front"


@dataclass(frozen=True)
class Questions:
    """A question set as the models read it: N prompts of n tokens."""

    token_ids: Tensor
    """[N, n]"""
    keys: list[str]
    other_token_ids: Tensor
    """[N, n] for each question another one, whose cache it gets when deranged."""
    other_keys: list[str]


@dataclass(frozen=True)
class LivePair:
    """Receiver, sharer and fuser, on one device."""

    tokenizer: PreTrainedTokenizerFast
    receiver: PreTrainedModel
    sharer: PreTrainedModel
    fuser: Fuser


def read_questions(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, Any]], device: torch.device
) -> Questions:
    """Rows of a bundled set as prompts of the protocol."""
    examples = parse_examples(TASK, [(row["id"], row) for row in rows])
    questions = tokenize(TASK, examples, tokenizer)
    others = derange(questions, DERANGEMENT_SEED)
    return Questions(
        token_ids=torch.tensor([q.token_ids for q in questions], device=device),
        keys=[q.example.answer for q in questions],
        other_token_ids=torch.tensor([q.token_ids for q in others], device=device),
        other_keys=[q.example.answer for q in others],
    )


def per_cent(letters: Letters, keys: list[str]) -> float:
    """How many of the letters are the keys."""
    hits = sum(TASK.score(key, letter) for letter, key in zip(letters, keys, strict=True))
    return 100 * hits / len(keys)


def alone(
    tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, questions: Questions
) -> Letters:
    """What a model answers by itself."""
    whole = [Section(-1, 0, questions.token_ids.shape[1])]
    return _answers(tokenizer, model, questions.token_ids, lambda _: (whole, _no_fusion))


def fused(pair: LivePair, questions: Questions, condition: Condition) -> Letters:
    """What the receiver answers with the sharer's cache."""
    sections = split(questions.token_ids.shape[1], condition.keep_ratio, condition.order)
    deranged = condition.control == "deranged"
    source = questions.other_token_ids if deranged else questions.token_ids

    def with_cache(rows: slice) -> tuple[list[Section], Fuse]:
        sent = read(pair.sharer, source[rows])
        if condition.control == "zero":
            sent = sent.map(torch.zeros_like)

        def fuse(section: Section, own: KVCache) -> KVCache:
            part = sent.section(section.start, section.stop)
            bits = condition.bits
            if bits is not None:
                part = part.map(lambda tensor: round_trip(tensor, bits))
            return pair.fuser(part, own)

        return sections, fuse

    return _answers(pair.tokenizer, pair.receiver, questions.token_ids, with_cache)


@torch.inference_mode()
def natural_magnitudes(sharer: PreTrainedModel, questions: Questions) -> Tensor:
    """[L, 2, H] the largest |key| and |value| of each KV head, averaged over the prompts."""
    cache = read(sharer, questions.token_ids)
    layers = [
        torch.stack([tensor.abs().amax((2, 3)).mean(0) for tensor in both])
        for both in zip(cache.keys, cache.values, strict=True)
    ]
    return torch.stack(layers)


def _no_fusion(section: Section, own: KVCache) -> KVCache:
    return own


@torch.inference_mode()
def _answers(
    tokenizer: PreTrainedTokenizerFast,
    receiver: PreTrainedModel,
    token_ids: Tensor,
    sections_and_fusion: Callable[[slice], tuple[list[Section], Fuse]],
) -> Letters:
    letters: Letters = []
    for start in range(0, len(token_ids), BATCH):
        rows = slice(start, start + BATCH)
        sections, fuse = sections_and_fusion(rows)
        state = prefill(receiver, token_ids[rows], sections, fuse)
        replies = greedy(receiver, state, MAX_NEW_TOKENS, [int(tokenizer.eos_token_id)])
        letters += [TASK.extract(tokenizer.decode(reply)) for reply in replies]
    return letters
