"""What a model gives each option as the first token of its answer: kept beside the answer, since a
message may move a probability long before it moves a letter."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from c2c.on_device import on_device
from latentwire.tasks.task import Options

DECIMALS = 4  # kept: what engines may differ by, and a record stays small
ROWS_AT_ONCE = 64  # of logits in float32: a vocabulary has a hundred thousand numbers


def option_tokens(tokenizer: Any, options: Options) -> dict[str, int]:
    """Each label's token at the start of an answer; none where a label is not one token, or two
    are the same, and where there are no options."""
    ids = [tokenizer.encode(label, add_special_tokens=False) for label in options.labels]
    alone = all(len(each) == 1 for each in ids) and len({each[0] for each in ids}) == len(ids)
    return dict(zip(options.labels, (each[0] for each in ids), strict=True)) if alone else {}


def option_logprobs(
    logits: Tensor, tokens: Sequence[dict[str, int]]
) -> list[dict[str, float] | None]:
    """Of each row of logits [R, V] the natural log-probabilities of its options among all tokens,
    by label and rounded; None for rows without `tokens`."""
    return [*map(by_label, tokens, of_tokens(logits, tokens).tolist())]


def of_tokens(logits: Tensor, tokens: Sequence[dict[str, int]]) -> Tensor:
    """The log-probabilities alone, float32 [R, options], in the order of each row's `tokens`; what
    fills up rows of fewer means nothing. Waits for no device."""
    most = max(map(len, tokens), default=0)
    if not most:
        return logits.new_empty(len(tokens), 0)
    ids = [[*each.values(), *[0] * (most - len(each))] for each in tokens]
    index = on_device(torch.tensor(ids), logits.device)
    parts = zip(logits.split(ROWS_AT_ONCE), index.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([part.float().log_softmax(-1).gather(1, at) for part, at in parts])


def by_label(tokens: dict[str, int], found: Sequence[float]) -> dict[str, float] | None:
    """What `of_tokens` gave for one row, as `option_logprobs` says it."""
    return {label: round(x, DECIMALS) for label, x in zip(tokens, found, strict=False)} or None
