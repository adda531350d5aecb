"""The parts of a batch that the definition does for one example at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_questions import NEW_TOKENS, make_questions, stopping
from tiny import loaded_pair

from c2c.cache import KVCache
from c2c.slot_cache import slot_attention
from latentwire.evaluation import batch
from latentwire.evaluation.batch import answer, fit_length
from latentwire.evaluation.option_logprobs import DECIMALS
from latentwire.evaluation.padded_prompts import padded
from latentwire.evaluation.pipeline import fitted
from latentwire.evaluation.reading import Text
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Channel, Condition


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_a_cache_is_fitted_as_the_definition_fits_it(pairs: list[tuple[int, int]]) -> None:
    have, want = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    generator = torch.Generator().manual_seed(0)
    tensors = tuple(torch.randn(len(pairs), 2, max(have), 3, generator=generator) for _ in range(2))
    cache = KVCache(tensors[:1], tensors[1:])
    rows = list(range(len(pairs)))[::-1]
    of = [Text(tuple(range(tokens + 1))) for tokens in have]
    to = [Text(tuple(range(tokens + 1))) for tokens in want]
    ours = fit_length(cache, rows, [of[row] for row in rows], to)
    assert ours.tokens == max(1, *want)
    for place, row in enumerate(rows):
        lent = cache.rows(row, row + 1).section(0, have[row])
        expected = fitted(lent, of[row], to[place])
        for kind in ("keys", "values"):
            (tensor,), (theirs,) = getattr(ours, kind), getattr(expected, kind)
            assert torch.equal(tensor[place, :, : want[place]], theirs[0])


def test_what_a_former_batch_left_is_not_seen() -> None:
    """Not even when it is no number: behind the mask 0 times NaN would be NaN."""
    pair, asked = stopping(loaded_pair()), make_questions([9, 3, 14])
    conditions = [
        Condition("receiver"),
        Condition("sharer"),
        Condition("c2c", Channel("bf16", 0.5), "matched"),
    ]
    work, donors = Workspace(pair), {1: asked}
    with slot_attention(pair.receiver, pair.sharer), torch.inference_mode():
        clean = answer(work, conditions, asked, donors, NEW_TOKENS)
        for name in ("receiver", "sharer"):
            slots = work.decoder(name, pair.receiver, 1, 1).slots
            for tensor in (*slots.keys, *slots.values):
                tensor.fill_(torch.nan)
        assert answer(work, conditions, asked, donors, NEW_TOKENS) == clean


def test_a_row_that_cannot_be_sent_is_named_and_troubles_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first token of the second question is no number in the sharer's cache."""
    pair, asked = stopping(loaded_pair()), make_questions([9, 5, 14])
    cuts = (("int8", 0.5, "front"), ("kivi4+zstd", 1.0, "front"), ("bf16", 0.5, "back"))
    conditions = [Condition("c2c", Channel(*cut), "matched") for cut in cuts]
    read, donors = batch.Batch.sent, {1: asked}

    def poisoned(self: batch.Batch, *asked: Any) -> dict[str, batch.Messages]:
        sent = read(self, *asked)
        sent[batch.OWN].cache.keys[pair.endpoint.key_layers[0]][1, 0, 0, 0] = torch.nan
        return sent

    def answered() -> dict[Condition, batch.Answers]:
        """With log-probabilities as they are kept."""
        found = answer(Workspace(pair), conditions, asked, donors, NEW_TOKENS)
        kept = {c: np.round(each.option_logprobs, DECIMALS).tolist() for c, each in found.items()}
        return {c: each._replace(option_logprobs=kept[c]) for c, each in found.items()}

    with slot_attention(pair.receiver, pair.sharer), torch.inference_mode():
        clean = answered()
        monkeypatch.setattr(batch.Batch, "sent", poisoned)
        found = answered()
    assert found[conditions[2]] == clean[conditions[2]]  # that token was not sent
    for condition, (codec, *_) in zip(conditions[:2], cuts[:2], strict=True):
        words = f"{codec}: the cache holds NaN or infinite numbers, which cannot be sent"
        assert found[condition].unanswered == [None, words, None]
        assert found[condition].wire_bytes[1] == 0
        for ours, theirs in zip(found[condition], clean[condition], strict=True):
            assert ours[::2] == theirs[::2]


def test_rows_are_filled_up_with_their_own_last_token() -> None:
    rows = padded([(4, 5, 6), (7,), (8, 9)], torch.device("cpu"))
    assert rows.tolist() == [[4, 5, 6], [7, 7, 7], [8, 9, 9]]


@pytest.mark.parametrize("first", [(2, 300), (9, 10)], ids=["slots", "rows"])
def test_a_decoder_made_anew_holds_what_it_held(first: tuple[int, int]) -> None:
    """Question sets in turn do not have it made, and its steps recorded, again and again."""
    (second,) = {(2, 300), (9, 10)} - {first}
    work, model = Workspace(loaded_pair()), loaded_pair().receiver
    small = work.decoder("receiver", model, *first)
    large = work.decoder("receiver", model, *second)
    assert large is not small
    assert work.decoder("receiver", model, *first) is large
    assert work.decoder("receiver", model, *second) is large
