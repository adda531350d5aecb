"""Which tokens go: the instruction tokens that the protocol fuses.

A sender can apply this rule alone: it needs the prompt's length and nothing of the receiver's.
"""

from c2c.sections import split


def kept(prompt_tokens: int, keep_ratio: float, order: str) -> range:
    """Positions of the kept tokens: floor((n-1) * keep_ratio) at the front or back of the first
    n-1; empty when that is none."""
    for section in split(prompt_tokens, keep_ratio, order):
        if section.mark > 0:
            return range(section.start, section.stop)
    return range(0)
