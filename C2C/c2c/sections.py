"""Which prompt tokens are fused: the prompt cut in sections of one kind."""

from dataclasses import dataclass

from c2c.errors import C2CError

ORDERS = ("front", "back")


@dataclass(frozen=True)
class Section:
    """Tokens start to stop of the prompt; `mark` is a bit mask of sharers to fuse, -1 for none."""

    mark: int
    start: int
    stop: int


def kept_tokens(prompt_tokens: int, keep_ratio: float) -> int:
    """How many instruction tokens (all but the last of the prompt) are fused: floor((n-1) * p)."""
    return int((prompt_tokens - 1) * keep_ratio)


def split(prompt_tokens: int, keep_ratio: float, order: str, mark: int = 1) -> list[Section]:
    """The sections of a prompt of n tokens.

    The first (`front`) or last (`back`) floor((n-1) * keep_ratio) instruction tokens carry `mark`;
    the last token of the prompt never does. Raises C2CError for values out of range.
    """
    if prompt_tokens < 1:
        raise C2CError("a prompt needs at least one token")
    if not 0 <= keep_ratio <= 1:
        raise C2CError(f"keep_ratio must be between 0 and 1, not {keep_ratio}")
    if order not in ORDERS:
        raise C2CError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    kept = kept_tokens(prompt_tokens, keep_ratio)
    instruction = prompt_tokens - 1
    if kept == 0:
        return [Section(-1, 0, prompt_tokens)]
    if order == "front":
        return [Section(mark, 0, kept), Section(-1, kept, prompt_tokens)]
    tail = [Section(mark, instruction - kept, instruction), Section(-1, instruction, prompt_tokens)]
    return tail if kept == instruction else [Section(-1, 0, instruction - kept), *tail]
