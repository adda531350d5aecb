"""Many prompts of different lengths in one forward pass: a cache of slots and its attention.

A cache of slots is a `KVCache` with more tokens than are filled: slot i of a row holds token i of
that row's text. Rows are as long as they are; what stands in later slots is never attended to,
for a token sees the slots up to its own alone, and of these not the ones that are `hidden`, as
padding within a text is. A token's position, for the rotary embedding, is its slot's number, plus
its row's shift where tokens of the text were left out.

Three passes fill slots. `PrefillPass` runs texts from their start, padded at the end: causal
attention among the pass's own tokens needs no mask, since padding comes after everything real.
`ExtendPass` runs tokens at any position of each row on top of what its slots hold.
`decode_step.DecodePass` does so for one token in each row, by a kernel.

transformers lets a model's attention function be named: inside `slot_attention` it is the one
here, which gets its pass as the keyword `slots`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, PreTrainedModel

from c2c.cache import Geometry, KVCache
from c2c.decode_step import DecodePass
from c2c.errors import C2CError
from c2c.on_device import on_device
from c2c.pieces import AtOnce, Piece, pieces, rounded
from c2c.queries import scaled
from c2c.wide import contiguous, put

ATTENTION = "c2c_slots"
LAYER_TYPES = {"full_attention", "sliding_attention"}
# All but cuDNN's, which prepares itself anew for each shape, and here shapes are many.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# Keywords that change nothing of what attention computes here; any other that is set is refused.
_HARMLESS = {
    "dropout",
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "is_causal",
}


def new_slots(
    geometry: Geometry,
    rows: int,
    slots: int,
    dtype: torch.dtype,
    device: torch.device,
    query_heads: int = 0,
) -> KVCache:
    """An empty cache: L tensors [rows, H, slots, D] each for keys and values, and
    [rows, query_heads, slots, D] for the queries of a `PrefillPass` where these are kept.

    Zeros, not whatever memory held: a slot behind the mask has weight 0, and 0 * NaN is NaN.
    """

    def layers(heads: int) -> tuple[Tensor, ...]:
        shape = (rows, heads, slots, geometry.head_dim)
        return tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(geometry.layers))

    keys, values = layers(geometry.kv_heads), layers(geometry.kv_heads)
    return KVCache(keys, values, layers(query_heads) if query_heads else ())


class PrefillPass:
    """A pass over the first T tokens of every row; `update` and `mask` are what attention asks.
    `hidden` (bool [R, T]) are the slots that no token sees."""

    def __init__(self, slots: KVCache, hidden: Tensor | None = None) -> None:
        self.slots, self.hidden = slots, hidden
        self._masks: dict[int | None, Tensor] = {}

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Put K and V [R, H, T, D] in slots 0 to T - 1; attention sees just these."""
        tokens = key.shape[2]
        first = (slice(None), slice(None), slice(tokens))
        put(self.slots.keys[layer], first, key)
        put(self.slots.values[layer], first, value)
        return key, value

    def keep(self, query: Tensor, layer: int, scaling: float | None) -> None:
        """Put queries [R, Hq, T, D] in the slots, where these have room for them."""
        if self.slots.queries:
            first = (slice(None), slice(None), slice(query.shape[2]))
            put(self.slots.queries[layer], first, scaled(query, scaling))

    def mask(self, query: Tensor, window: int | None) -> Tensor | None:
        """None where plain causal attention is right, else what to add to scores: [T, T], or, where
        slots are hidden, [R, 1, T, T]."""
        tokens = query.shape[2]
        if self.hidden is None and (window is None or tokens <= window):
            return None
        if window not in self._masks:
            place = torch.arange(tokens, device=query.device)
            seen = near(place[:, None] - place, window)
            if self.hidden is not None:
                seen = without(seen, self.hidden[:, :tokens])
            self._masks[window] = additive(seen, query.dtype)
        return self._masks[window]


class ExtendPass:
    """A pass over tokens at `positions` (int64 [R, T]) of each row.

    `visible` says how many slots attention looks at: more than any position that matters. `hidden`
    (bool [R, visible or more]) are those that no token sees.
    """

    def __init__(
        self, slots: KVCache, positions: Tensor, visible: int, hidden: Tensor | None = None
    ) -> None:
        self.slots, self.positions, self.visible = slots, positions, visible
        self.hidden = hidden
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._masks: dict[tuple[int | None, int], Tensor] = {}

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Put K and V [R, H, T, D] in the slots of their positions; the visible slots of all."""
        keys, values = self.slots.keys[layer], self.slots.values[layer]
        there = (self._rows, slice(None), self.positions)
        put(keys, there, key.transpose(1, 2))
        put(values, there, value.transpose(1, 2))
        return keys[:, :, : self.visible], values[:, :, : self.visible]

    def mask(self, query: Tensor, window: int | None, groups: int) -> Tensor:
        """What to add to the scores of `groups` query heads as one: [R, 1, groups * T, visible]."""
        if (window, groups) not in self._masks:
            positions = self.positions.repeat(1, groups)
            behind = positions[:, None, :, None] - torch.arange(self.visible, device=query.device)
            seen = near(behind, window)
            if self.hidden is not None:
                seen = without(seen, self.hidden[:, : self.visible])
            self._masks[window, groups] = additive(seen, query.dtype)
        return self._masks[window, groups]


def near(behind: Tensor, window: int | None) -> Tensor:
    """Which slots a token sees that are so many `behind` its own."""
    return behind >= 0 if window is None else (behind >= 0) & (behind < window)


def without(seen: Tensor, hidden: Tensor) -> Tensor:
    """What is `seen` [..., Q, S] without what is `hidden` [R, S]: [R, 1, Q, S]. A token that would
    then see nothing, padding before all that is real, sees it all the same, for attention to
    nothing is NaN in some kernels; nobody sees that token."""
    left = seen & ~hidden[:, None, None]
    return left | (seen & ~left.any(-1, keepdim=True))


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `seen`, minus infinity elsewhere: made once a pass, not once a layer."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    slots: PrefillPass | ExtendPass | DecodePass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of `query` [R, Hq, T, D] to `key` and `value` [R, H, S, D]; [R, T, Hq, D].

    Raises C2CError for a model whose attention is more than this.
    """
    unknown = sorted(n for n, v in others.items() if v is not None and n not in _HARMLESS)
    if slots is None or attention_mask is not None or unknown or not _is_causal(module, others):
        what = f" ({', '.join(unknown)})" if unknown else ""
        raise C2CError(
            f"{type(module).__name__} is no plain causal attention{what}: this model's examples"
            " cannot be evaluated in batches"
        )
    if isinstance(slots, DecodePass):
        return slots.attend(query, key, value, sliding_window, scaling), None
    if isinstance(slots, PrefillPass):
        slots.keep(query, int(module.layer_idx), scaling)  # type: ignore[arg-type]
        mask = slots.mask(query, sliding_window)
        grouped = query.shape[1] != key.shape[1]
        if grouped and not _flash_groups(query, mask):
            key, value = (
                x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value)
            )
            grouped = False
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        return contiguous(out.transpose(1, 2)), None
    # The query heads that share a KV head become more queries of it, so that the cache, which is
    # nearly all that decoding reads, is read once and never copied.
    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    folded = contiguous(query).view(rows, key.shape[1], groups * tokens, width)
    mask = slots.mask(query, sliding_window, groups)
    out = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return contiguous(out.reshape(rows, heads, tokens, width).transpose(1, 2)), None


def _flash_groups(query: Tensor, mask: Tensor | None) -> bool:
    """Whether a kernel exists that reads grouped heads as they are; others would fall back to
    writing out all scores."""
    return query.is_cuda and mask is None and query.dtype in (torch.bfloat16, torch.float16)


def _is_causal(module: torch.nn.Module, others: dict[str, Any]) -> bool:
    return getattr(module, "is_causal", True) and others.get("is_causal") is not False


AttentionInterface.register(ATTENTION, attend)


@contextmanager
def slot_attention(*models: PreTrainedModel) -> Iterator[None]:
    """Within, the models attend by `attend` and run passes over slots; afterwards as before.

    Raises C2CError for a model that this cannot be right for.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(KERNELS))
        for model in models:
            require_batches(model.config)
            before = model.config._attn_implementation
            model.set_attn_implementation(ATTENTION)
            stack.callback(model.set_attn_implementation, before)
            if model.config._attn_implementation != ATTENTION:
                raise C2CError(_refusal(model.config, "its attention cannot be exchanged"))
        yield


def require_batches(config: Any) -> None:
    """C2CError for architectures whose rows would not be independent of what else is in the batch,
    or whose attention differs from full and sliding windows."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - LAYER_TYPES
    if kinds:
        raise C2CError(_refusal(config, f"it has layers of type {', '.join(sorted(kinds))}"))
    ropes = getattr(text, "rope_parameters", None) or {}
    parts = [ropes, *(part for part in ropes.values() if isinstance(part, dict))]
    for part in parts:
        kind = str(part.get("rope_type", "default"))
        if "dynamic" in kind or kind == "longrope":
            raise C2CError(_refusal(config, f"its rotary embedding ({kind}) depends on the batch"))


def _refusal(config: Any, why: str) -> str:
    kind = getattr(config, "model_type", "unknown")
    return f"a model of type {kind!r} cannot be evaluated in batches: {why}"


@torch.inference_mode()
def read(
    model: PreTrainedModel,
    token_ids: Tensor,
    lengths: Sequence[int],
    slots: KVCache,
    at_once: AtOnce,
    hidden: Tensor | None = None,
) -> None:
    """Run the first lengths[r] tokens of each row of `token_ids` [R, T] from position 0 and keep K
    and V in `slots`; of what stands behind them some may be run too, as padding. `hidden` (bool
    [R, T]) are those that no token sees.

    Inside `slot_attention` only.
    """
    for piece in pieces(lengths, at_once):
        rows, tokens = slice(piece.start, piece.stop), piece.tokens
        positions = torch.arange(tokens, device=token_ids.device).expand(
            piece.stop - piece.start, -1
        )
        view = PrefillPass(slots.rows(piece.start, piece.stop), _rows(hidden, rows))
        run(model, token_ids[rows, :tokens], positions, view)


# What is read of a piece: its slots, positions [R, T], visible slots, and hidden ones, as
# `ExtendPass` has them.
View = Callable[[Piece, KVCache, Tensor, int, Tensor | None], "ExtendPass"]


def plain(
    piece: Piece, slots: KVCache, positions: Tensor, visible: int, hidden: Tensor | None
) -> ExtendPass:
    """Nothing but its tokens is read."""
    return ExtendPass(slots, positions, visible, hidden)


@torch.inference_mode()
def extend(
    model: PreTrainedModel,
    token_ids: Tensor,
    spans: Sequence[tuple[int, int]],
    slots: KVCache,
    at_once: AtOnce,
    shifts: Tensor | None = None,
    hidden: Tensor | None = None,
    view: View = plain,
) -> None:
    """Run each row's tokens in the slots of its span, start to stop - 1, which take their K and V,
    on top of what `slots` hold; each row's tokens stand so much later as `shifts` [R] say.

    `token_ids` [R, T] begin with those of the span's first slot. Behind a row's end, and of one
    that has none, some may be run too, as padding, in the slot at its stop: no token that matters
    may see that before it is written again. `hidden` (bool [R, S]) are slots that no token sees.
    """
    ends = on_device(torch.tensor(spans), token_ids.device)
    for piece in pieces([stop - start for start, stop in spans], at_once):
        rows = slice(piece.start, piece.stop)
        first, stop = ends[rows].T[..., None]
        positions = first + torch.arange(piece.tokens, device=first.device)
        positions = torch.minimum(positions, stop)
        furthest = max(stop for _, stop in spans[rows])
        visible = min(rounded(furthest + 1), slots.tokens)
        part = slots.rows(piece.start, piece.stop)
        stand = positions if shifts is None else positions + shifts[rows, None]
        seen = view(piece, part, positions, visible, _rows(hidden, rows))
        run(model, token_ids[rows, : piece.tokens], stand, seen)


def _rows(hidden: Tensor | None, rows: slice) -> Tensor | None:
    return None if hidden is None else hidden[rows]


def run(
    model: PreTrainedModel, token_ids: Tensor, positions: Tensor, slots: PrefillPass | ExtendPass
) -> None:
    """The model without its head: no logits are needed."""
    model.base_model(
        input_ids=token_ids,
        position_ids=positions,
        past_key_values=slots,
        use_cache=True,
        slots=slots,
    )


def next_logits(
    model: PreTrainedModel,
    token_ids: Tensor,
    positions: Tensor,
    slots: KVCache,
    visible: int,
    rows: Tensor | None = None,
    shifts: Tensor | None = None,
    hidden: Tensor | None = None,
    row_slots: Tensor | None = None,
) -> Tensor:
    """Logits [R, vocabulary] after one more token in each row: `token_ids` and `positions` [R],
    `shifts` [R] and `hidden` as `extend` has them.

    Attention looks at the `visible` first slots. With `rows` (int64 [R]) row r's slots are those
    of rows[r], and attention looks at all that each has, by a kernel that must support these slots
    and knows of none that are hidden; `row_slots` as `DecodePass` has them.
    """
    view: ExtendPass | DecodePass
    if rows is None:
        view = ExtendPass(slots, positions[:, None], visible, hidden)
    else:
        view = DecodePass(slots, rows, positions, row_slots)
    output = model(
        input_ids=token_ids[:, None],
        position_ids=(positions if shifts is None else positions + shifts)[:, None],
        past_key_values=view,
        use_cache=True,
        logits_to_keep=1,
        slots=view,
    )
    return output.logits[:, -1]
