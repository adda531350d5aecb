"""`offsets`: what holds for any text and tokenizers, and cases made by hand."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from transformers import AutoTokenizer
from two_tokenizers import CONVERSATIONS, first_tokenizer, other, say, second_tokenizer

from c2c.alignment import STRATEGIES, Aligner, _content_spans
from c2c.chat import Messages, chat_text
from c2c.errors import C2CError
from c2c.paired_prompts import (
    ALIGNMENTS,
    OFFSETS,
    PairedPrompts,
    offset_sources,
    paired_prompts,
)

TOKENIZERS = {"words": first_tokenizer, "pieces": second_tokenizer, "characters": other}

Spans = list[tuple[int, int]]


def words(*lengths: int) -> Spans:
    """Tokens of so many characters, one behind the other."""
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    return [(end - length, end) for end, length in zip(ends, lengths, strict=True)]


@pytest.mark.parametrize(
    ("receiver", "sharer", "sources"),
    [
        (words(3, 2), words(3, 2), [0, 1]),  # the same tokens
        (words(5), words(2, 3), [1]),  # the sharer's last one, which has read all of the word
        (words(2, 3), words(5), [0, 0]),  # one token of the sharer's for both
        (words(1, 1, 3), words(2, 1, 2), [0, 0, 2]),
        (words(4, 1), words(3, 2), [1, 1]),
        # Four bytes of one character: shared out in order, the last to the last.
        ([(0, 1)] * 4, [(0, 1)] * 4, [0, 1, 2, 3]),
        ([(0, 1)] * 4, [(0, 1)] * 2, [0, 0, 1, 1]),
        ([(0, 1)] * 2, [(0, 1)] * 4, [1, 3]),
        ([(0, 1)], [(0, 1)] * 3, [2]),
        # A token that begins with a character's last bytes: each is still its own.
        ([(0, 1), (0, 2)], [(0, 1), (0, 2)], [0, 1]),
        # Characters that the sharer has no token for go to the token before, the first to none.
        (words(1, 1, 1), [(0, 1), (2, 3)], [0, 0, 1]),
        (words(1, 1), [(1, 2)], [0, 0]),
        # A token that reaches over the message's end, and one without a character.
        ([(-1, 1), (1, 4)], words(1, 2), [0, 1]),
        ([(0, 1), (1, 1), (1, 2)], words(1, 1), [0, 1, 1]),
    ],
)
def test_a_token_takes_the_one_that_holds_its_last_character(
    receiver: Spans, sharer: Spans, sources: list[int]
) -> None:
    characters = max(end for _, end in [*sharer, *receiver])
    assert offset_sources(receiver, sharer, min(characters, 5)) == sources


def spans_of(tokenizer: Any, messages: Messages) -> tuple[Spans, Spans]:
    """Each token's characters in the whole text, and each message's."""
    text = chat_text(tokenizer, messages)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return found["offset_mapping"], list(_content_spans(text, "one", messages))


@pytest.mark.parametrize("sharer", TOKENIZERS)
@pytest.mark.parametrize("receiver", TOKENIZERS)
@settings(max_examples=15)
@given(messages=CONVERSATIONS)
@example(messages=say("🙂é"))
@example(messages=say("\n\n a"))
@example(messages=say("assistant") * 2)
def test_offsets_hold_for_any_text(receiver: str, sharer: str, messages: Messages) -> None:
    found = holds(TOKENIZERS[receiver](), TOKENIZERS[sharer](), messages)
    if receiver == sharer:
        assert found.keeps_places and found.one_to_one == (len(found.sendable),) * 2


def holds(own: Any, theirs: Any, messages: Messages) -> PairedPrompts:
    """The prompts by offsets, once all that must hold for them was seen to."""
    found = paired_prompts(own, theirs, OFFSETS, messages)
    # Each reads its own tokens, and no padding.
    for tokenizer, ids in ((own, found.receiver_ids), (theirs, found.sharer_ids)):
        text = chat_text(tokenizer, messages)
        assert list(ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert not found.receiver_pads and not found.sharer_pads
    assert len(found.sources) == len(found.receiver_ids)
    taken = [source for source in found.sources if source is not None]
    assert taken == sorted(taken)
    assert found.sendable == tuple(sorted({*taken}))
    own_spans, own_messages = spans_of(own, messages)
    their_spans, their_messages = spans_of(theirs, messages)
    for (begin, end), (there, _) in zip(own_messages, their_messages, strict=True):
        for token, (start, stop) in enumerate(own_spans):
            if stop <= begin or start >= end:
                continue
            source = found.sources[token]
            assert source is not None
            last = min(stop, end) - 1 - begin + there
            assert their_spans[source][0] <= last < their_spans[source][1]
    of_messages = sum(
        any(stop > begin and start < end for begin, end in own_messages)
        for start, stop in own_spans
    )
    assert len(taken) == of_messages  # no token of a template
    return found


def test_offsets_hold_for_real_tokenizers(shared_dir: Path) -> None:
    folder = shared_dir / "compat" / "alignment"
    if not folder.is_dir():
        pytest.skip(f"the alignment cases are not there: {folder}")
    load = cache(lambda name: AutoTokenizer.from_pretrained(folder / name))
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    shares = set()
    for case in (case for case in cases if case["strategy"] == "first"):
        found = holds(load(case["receiver"]), load(case["sharer"]), case["messages"])
        own, tokens = found.one_to_one
        shares.add(own == tokens)
    assert shares == {True, False}


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=15)
@given(messages=CONVERSATIONS)
def test_by_the_published_rule_they_are_the_aligners(strategy: str, messages: Messages) -> None:
    both = first_tokenizer(), second_tokenizer()
    found, rule = paired_prompts(*both, strategy, messages), Aligner(*both, strategy)
    aligned = rule.align(messages)
    assert [list(found.receiver_ids), list(found.sharer_ids)] == [
        aligned.receiver_ids,
        aligned.sharer_ids,
    ]
    marked = [n for n, message in enumerate(aligned.message) if message]
    assert [n for n, source in enumerate(found.sources) if source is not None] == marked
    assert found.keeps_places and list(found.sendable) == marked
    for pads, flags in (
        (found.receiver_pads, aligned.receiver_pad),
        (found.sharer_pads, aligned.sharer_pad),
    ):
        assert list(pads) == [n for n, flag in enumerate(flags) if flag]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_prompts_last_token_is_never_sent(alignment: str) -> None:
    """Also where the template ends with the message."""
    bare = first_tokenizer.__wrapped__()
    bare.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    found = paired_prompts(bare, bare, alignment, say("What is it?"))
    assert found.sources[-1] is None and len(found.sendable) == len(found.sharer_ids) - 1


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_what_cannot_be_aligned_is_one_sentence(alignment: str) -> None:
    trimming = second_tokenizer.__wrapped__()
    trimming.chat_template = "{% for m in messages %}{{ m.content | trim }}<{% endfor %}"
    with pytest.raises(C2CError, match=r"^the sharer's chat template changes message 1"):
        paired_prompts(first_tokenizer(), trimming, alignment, say(" a "))
