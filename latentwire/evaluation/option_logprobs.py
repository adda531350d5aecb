"""What a model gives each option as the first token of its answer: kept beside the answer, since a
message may move a probability long before it moves a letter."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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
    most = max(map(len, tokens), default=0)
    if not most:
        return [None] * len(tokens)
    ids = [[*each.values(), *[0] * (most - len(each))] for each in tokens]
    index = torch.tensor(ids, device=logits.device)
    parts = zip(logits.split(ROWS_AT_ONCE), index.split(ROWS_AT_ONCE), strict=True)
    lines = torch.cat([part.float().log_softmax(-1).gather(1, at) for part, at in parts]).tolist()
    return [
        {label: round(x, DECIMALS) for label, x in zip(row, line, strict=False)} or None
        for row, line in zip(tokens, lines, strict=True)
    ]
