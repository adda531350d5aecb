"""How many examples go together: what one takes of a device's memory, and what there is."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from c2c.cache import geometry
from latentwire.channel.selectors.registry import needs_queries
from latentwire.controls.registry import is_lent
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.memory import usable_bytes
from latentwire.spec.condition import Condition

log = logging.getLogger("latentwire")

PLAIN_EXAMPLES = 32  # without a GPU: more do not pay for themselves


@dataclass(frozen=True)
class Room:
    """Memory for batches under some conditions. Worked out once for a call, on a device made free,
    so that its batches use the same buffers and graphs, and later calls that need no more."""

    conditions: frozenset[Condition]
    slots: int  # that the longest row needs
    usable_bytes: int

    def serves(self, conditions: Sequence[Condition], slots: int) -> bool:
        """Whether it is for these conditions, and rows of so many slots."""
        return self.conditions == frozenset(conditions) and self.slots >= slots

    def examples(self, pair: LoadedPair, conditions: Sequence[Condition], slots: int) -> int:
        """How many examples of so many slots go together, one at least."""
        fits = max(1, self.usable_bytes // example_bytes(pair, conditions, slots))
        return fits if pair.device.type == "cuda" else min(fits, PLAIN_EXAMPLES)


def room_for(
    pair: LoadedPair, conditions: Sequence[Condition], slots: int, tokens_at_once: int
) -> Room:
    """What free memory has room for, where rows need up to so many slots."""
    usable = usable_bytes(pair.device)
    if pair.device.type == "cuda":
        usable -= _activation_bytes(pair, slots, tokens_at_once)
    room = Room(frozenset(conditions), slots, usable)
    log.info(
        "up to %d slots a row: %.2f GB usable, %.1f MB an example under %d conditions: %d together",
        slots,
        usable / 1e9,
        example_bytes(pair, conditions, slots) / 1e6,
        len(conditions),
        room.examples(pair, conditions, slots),
    )
    return room


def example_bytes(pair: LoadedPair, conditions: Sequence[Condition], slots: int) -> int:
    """Memory that one example takes under all conditions: caches, and logits of its rows."""
    receiver, sharer = (geometry(model.config) for model in (pair.receiver, pair.sharer))
    number = pair.dtype.itemsize
    own, sent = (2 * g.layers * g.width * slots * number for g in (receiver, sharer))
    vocabulary = pair.receiver.config.get_text_config().vocab_size
    logits = 3 * vocabulary * number
    fused = [c for c in conditions if c.channel]
    by_receiver = len([c for c in conditions if c.system == "receiver"]) + len(fused)
    by_sharer = len(conditions) - by_receiver
    # Prompts of one batch that are asked and lent; each cache sent; what arrives of it.
    lent = {c.donor for c in fused if is_lent(c.control)}
    caches = 1 + max(1, len(lent)) + len({c.sends for c in fused})
    passed = sum(c.channel.keep_ratio for c in fused if c.channel)
    asked = need_queries(fused) * query_heads(pair.sharer) / (2 * sharer.kv_heads)
    shared = own + caches * sent * (1 + asked)
    return int(shared + by_receiver * (own + logits) + by_sharer * (sent + logits) + passed * sent)


def need_queries(conditions: Iterable[Condition]) -> bool:
    """Whether what is sent under any of these is chosen by the queries of the sharer's tokens."""
    return any(needs_queries(c.channel) for c in conditions if c.channel)


def query_heads(model: PreTrainedModel) -> int:
    """Heads of the model's queries."""
    return int(model.config.get_text_config().num_attention_heads)


def _activation_bytes(pair: LoadedPair, slots: int, tokens_at_once: int) -> int:
    """Memory for what lies between layers while many tokens are read or fused."""
    widths = []
    for model in (pair.receiver, pair.sharer):
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        groups = heads // geometry(config).kv_heads
        hidden = max(config.intermediate_size, heads * geometry(config).head_dim)
        widths.append(8 * hidden + 4 * groups * slots)  # and the mask of folded attention
    return tokens_at_once * max(widths) * pair.dtype.itemsize
