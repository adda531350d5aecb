"""Which prompt tokens are fused: the prompt cut in sections of one kind."""

from collections.abc import Iterable
from dataclasses import dataclass

from c2c.errors import C2CError

ORDERS = ("front", "back")

Runs = tuple[range, ...]  # consecutive positions: not empty, ascending, not touching


@dataclass(frozen=True)
class Section:
    """Tokens start to stop of the prompt; `sharer_mask` is a bit mask of sharers to fuse, -1 for
    none."""

    sharer_mask: int
    start: int
    stop: int


def runs_of(tokens: Iterable[int]) -> Runs:
    """Positions in any order as runs."""
    if isinstance(tokens, range) and tokens.step == 1:
        return (tokens,) if tokens else ()
    runs: list[range] = []
    for position in sorted({int(token) for token in tokens}):
        if runs and runs[-1].stop == position:
            runs[-1] = range(runs[-1].start, position + 1)
        else:
            runs.append(range(position, position + 1))
    return tuple(runs)


def kept_tokens(prompt_tokens: int, keep_ratio: float) -> int:
    """How many instruction tokens (all but the last of the prompt) are fused: floor((n-1) * p)."""
    return int((prompt_tokens - 1) * keep_ratio)


def sections(runs: Iterable[range], prompt_tokens: int, sharer_mask: int = 1) -> list[Section]:
    """The prompt of n tokens cut where `runs` of fused tokens begin and end.

    Runs are not empty, ascend, do not touch, and end before the prompt's last token.
    """
    cut, end = [], 0
    for run in runs:
        if run.start > end:
            cut.append(Section(-1, end, run.start))
        cut.append(Section(sharer_mask, run.start, run.stop))
        end = run.stop
    return [*cut, Section(-1, end, prompt_tokens)]


def split(prompt_tokens: int, keep_ratio: float, order: str, sharer_mask: int = 1) -> list[Section]:
    """The sections of a prompt of n tokens.

    The first (`front`) or last (`back`) floor((n-1) * keep_ratio) instruction tokens carry
    `sharer_mask`; the last token of the prompt never does. Raises C2CError for values out of range.
    """
    if prompt_tokens < 1:
        raise C2CError("a prompt needs at least one token")
    if not 0 <= keep_ratio <= 1:
        raise C2CError(f"keep_ratio must be between 0 and 1, not {keep_ratio}")
    if order not in ORDERS:
        raise C2CError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    kept = kept_tokens(prompt_tokens, keep_ratio)
    start = 0 if order == "front" else prompt_tokens - 1 - kept
    return sections([range(start, start + kept)] if kept else [], prompt_tokens, sharer_mask)
