"""The sharer's side: prompt -> cache."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, from_transformers, geometry
from c2c.errors import C2CError
from c2c.queries import kept_queries


@torch.inference_mode()
def read(
    model: PreTrainedModel, token_ids: Tensor, seen: Tensor | None = None, queries: bool = False
) -> KVCache:
    """The sharer's cache of a prompt's instruction, with the `queries` where they are asked for.

    `token_ids` is [B, n], all rows of one length; the cache holds the first n-1 tokens, since the
    last one is never fused. The sharer is causal and fusion never changes its cache, so one pass
    equals reading section by section. `seen` [B, n] is 0 where a token is padding, which has a
    position and to which no token attends; None: there is none.
    """
    if queries:
        with kept_queries(model) as found:
            cache = read(model, token_ids, seen)
        return replace(cache, queries=tuple(found[layer] for layer in range(cache.layers)))
    cache = DynamicCache()
    require_readable(token_ids.shape[1])
    mask = None if seen is None else seen[:, :-1]
    model(
        token_ids[:, :-1],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return checked(from_transformers(cache), model)


def require_readable(prompt_tokens: int) -> None:
    """C2CError for a prompt without an instruction."""
    if prompt_tokens < 2:
        raise C2CError("a prompt needs at least two tokens for the sharer to read one")


def checked(cache: KVCache, model: PreTrainedModel) -> KVCache:
    """`cache`, once its shape is what the model's config promises."""
    expected = geometry(model.config)
    shape = cache.keys[0].shape
    if cache.layers != expected.layers or (shape[1], shape[3]) != (
        expected.kv_heads,
        expected.head_dim,
    ):
        raise C2CError(
            f"the model's cache has {cache.layers} layers of {shape[1]} heads x {shape[3]},"
            f" its config says {expected.layers} of {expected.kv_heads} x {expected.head_dim}"
        )
    return cache
