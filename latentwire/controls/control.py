"""What a control is: a message that is sent in place of the own one. One a file; the registry lists
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings torch: a list of names should not take seconds
    from torch import Tensor

    from c2c.cache import KVCache


@dataclass(frozen=True)
class Known:
    """What a control knows of B messages beside their caches."""

    # Of each message's prompt, by its tokens alone: chance is the same in every batch and run.
    seeds: Sequence[int]
    # Of each message the places of its tokens: what stands elsewhere, such as the padding of
    # prompts that are aligned, is never sent.
    sent: Sequence[Sequence[int]]
    # Float64 [D / 2], of the sharer's rotary embedding (`c2c.rope`); None: it cannot be taken off.
    frequencies: "Tensor | None" = None
    # The calibration's mean K (without the rotary embedding) and V, float32 [L, H, D] each, where
    # the control is `calibrated`.
    means: "tuple[Tensor, Tensor] | None" = None


@dataclass(frozen=True)
class Control:
    """Whose prompt the sharer reads, and what is sent of what it then has."""

    title: str  # what is sent, in a few words for people
    # Whether the sharer reads a donor's prompt, not the question's own. A seed pairs questions with
    # donors: it is in the fingerprints of these controls alone, and records name the donor.
    lent: bool = False
    # (cache, tokens, known) -> what is sent of it, of the same shape; None: all of it, as it is.
    # `cache` is K and V of B prompts' instructions, [B, H, T, D] a layer; a donor's has the length
    # of the question's own. Row b has tokens[b] tokens; padding follows, which nobody reads.
    # Nothing is changed in place, and a row depends on no other. With None, messages that are no
    # caches (texts, letters, log-probabilities) have this control too.
    message: "Callable[[KVCache, Sequence[int], Known], KVCache] | None" = None
    # Whether it is made of the pair's calibration, whose hash is then in the fingerprint. Without
    # one the control is not run.
    calibrated: bool = False
