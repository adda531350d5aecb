"""The receiver's side: prompt + fusion -> cache -> text."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, from_transformers, to_transformers
from c2c.sections import Section

# Given a section and the receiver's K/V of its tokens, returns them after fusion.
Fuse = Callable[[Section, KVCache], KVCache]


class Prefilled(NamedTuple):
    """The receiver after the prompt: last position's logits [B, vocabulary] and its cache.

    A token's position is its number in the cache plus `shift`: so many tokens of the text before it
    are not there. `seen` is as `prefill` has it.
    """

    logits: Tensor
    cache: DynamicCache
    shift: int = 0
    seen: Tensor | None = None


def extend(
    model: PreTrainedModel,
    cache: DynamicCache,
    token_ids: Tensor,
    shift: int = 0,
    seen: Tensor | None = None,
) -> Tensor:
    """Run `token_ids` [B, T] on top of `cache`, which grows; logits of the last, [B, vocab].
    Their positions go on from the cache's number of tokens plus `shift`. `seen` is as `prefill` has
    it; tokens beyond it are seen."""
    before = cache.get_seq_length()
    first, count = before + shift, before + token_ids.shape[1]
    positions = torch.arange(first, first + token_ids.shape[1], device=token_ids.device)
    output = model(
        token_ids,
        attention_mask=None if seen is None else F.pad(seen, (0, count - seen.shape[1]), value=1),
        position_ids=positions[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1]


def replace(cache: DynamicCache, start: int, fused: KVCache) -> None:
    """Overwrite the tokens from `start` on in `cache` with `fused`."""
    place = slice(start, start + fused.tokens)
    for layer, key, value in zip(cache.layers, fused.keys, fused.values, strict=True):
        layer.keys[:, :, place] = key
        layer.values[:, :, place] = value


@torch.inference_mode()
def prefill(
    model: PreTrainedModel,
    token_ids: Tensor,
    sections: Sequence[Section],
    fuse: Fuse,
    before: KVCache | None = None,
    shift: int = 0,
    seen: Tensor | None = None,
) -> Prefilled:
    """Work through the prompt section by section.

    Each section is run attending to what earlier ones became after fusion; then `fuse` says what
    its own K and V become, if it is marked. The last section is never fused.

    `token_ids` is [B, n], all rows of one length and with the same sections. The cache begins with
    `before`, if anything, and the prompt follows, `shift` positions later than it would stand
    right behind it. Tokens of cache and prompt whose `seen` [B, tokens] is 0 are padding: they have
    positions and are read, and no token attends to them, nor they to themselves; None: there are
    none. A prompt may end on one.
    """
    ahead = before.tokens if before else 0
    cache = to_transformers(before) if before else DynamicCache()
    *earlier, last = sections
    for section in earlier:
        extend(model, cache, token_ids[:, section.start : section.stop], shift, seen)
        if section.sharer_mask > 0:
            start = ahead + section.start
            receiver_kv = from_transformers(cache).section(start, ahead + section.stop)
            replace(cache, start, fuse(section, receiver_kv))
    logits = extend(model, cache, token_ids[:, last.start : last.stop], shift, seen)
    return Prefilled(logits, cache, shift, seen)


def read(model: PreTrainedModel, token_ids: Tensor, seen: Tensor | None = None) -> Prefilled:
    """Work through the prompt [B, n] in one pass, without fusion; `seen` is as `prefill` has it."""
    whole = [Section(-1, 0, token_ids.shape[1])]
    return prefill(model, token_ids, whole, lambda section, receiver_kv: receiver_kv, seen=seen)


@torch.inference_mode()
def greedy(
    model: PreTrainedModel,
    prefilled: Prefilled,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
) -> list[list[int]]:
    """Greedy decoding; one list of new token ids per row, without the stop token that ended it.

    Rows that have ended leave the batch, so that a long answer is not paid for by all.
    The cache in `prefilled` is used up.
    """
    cache, seen = prefilled.cache, prefilled.seen
    answers: list[list[int]] = [[] for _ in range(len(prefilled.logits))]
    alive = torch.arange(len(answers), device=prefilled.logits.device)
    logits = prefilled.logits
    stops = torch.tensor(sorted(stop_ids), device=logits.device, dtype=torch.long)
    for step in range(max_new_tokens):
        tokens = logits.argmax(-1)
        going = ~torch.isin(tokens, stops)
        if not bool(going.all()):
            alive, tokens = alive[going], tokens[going]
            if len(alive) == 0:
                break
            cache = to_transformers(from_transformers(cache).pick(going))
            seen = seen if seen is None else seen[going]
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            answers[row].append(token)
        if step + 1 < max_new_tokens:
            logits = extend(model, cache, tokens[:, None], prefilled.shift, seen)
    return answers
