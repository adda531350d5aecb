"""The queries of a pass, which no cache holds: taken where attention gets them.

That is after what a model does to them (bias, norm, rotary embedding), whatever the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from c2c.errors import C2CError


@contextmanager
def kept_queries(model: PreTrainedModel) -> Iterator[dict[int, Tensor]]:
    """Within, the queries of the model's last pass by layer, as `KVCache.queries` has them.

    Raises C2CError for a model whose attention function cannot be exchanged.
    """
    name = model.config._attn_implementation
    if name not in ALL_ATTENTION_FUNCTIONS:
        raise C2CError(f"the queries of a model with attention {name!r} cannot be seen: use sdpa")
    usual, found = ALL_ATTENTION_FUNCTIONS[name], dict[int, Tensor]()

    def attend(module: torch.nn.Module, query: Tensor, *others: Any, **named: Any) -> Any:
        found[int(module.layer_idx)] = scaled(query, named.get("scaling"))  # type: ignore[arg-type]
        return usual(module, query, *others, **named)

    ALL_ATTENTION_FUNCTIONS[name] = attend
    try:
        yield found
    finally:
        ALL_ATTENTION_FUNCTIONS[name] = usual


def scaled(query: Tensor, scaling: float | None) -> Tensor:
    """Queries [B, Hq, T, D] times what attention scales by."""
    return query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
