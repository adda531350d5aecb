"""Floating-point operations and bytes of a grid, counted from shapes: no padding, no waste.

Products are counted, and the squares of norms by which tokens are chosen; what codecs compute is
not, nor are softmax, sorting and the like.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from c2c.cache import Geometry, KVCache, geometry
from c2c.fuser import Fuser
from c2c.slot_cache import slot_attention
from latentwire.channel.oracles.registry import ORACLES
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.ranked import Ranked
from latentwire.channel.selectors.registry import selector
from latentwire.evaluation.batch import Batch, Chosen
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.room import need_queries, query_heads
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question

READ_AT_ONCE = 64  # questions of which is found out together what goes


@dataclass
class Work:
    """What a phase does: tokens through a network, their FLOPs, and bytes of caches read."""

    tokens: int = 0
    flops: float = 0.0
    cache_bytes: float = 0.0

    def add(self, tokens: int, flops: float, cache_bytes: float = 0.0) -> None:
        self.tokens += tokens
        self.flops += flops
        self.cache_bytes += cache_bytes


def count(
    pair: LoadedPair,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Sequence[Question],
    forced_lengths: Mapping[Condition, Sequence[int]],
    chosen: Chosen,
) -> dict[str, Work]:
    """Phase -> work, everything that conditions share counted once; `chosen` is what goes under
    each (`chosen_tokens`).

    A multiply and an add are two operations. Decoding runs one step more than an answer has
    tokens, unless it is as long as answers may be.
    """
    names = ("sharer prefill", "scores", "receiver prefill", "fusion", "tails", "decoding")
    work = {name: Work() for name in names}
    receiver, sharer = ModelFlops(pair.receiver), ModelFlops(pair.sharer)
    fuser = FuserFlops(pair)
    lent = any(c.control == "deranged" for c in conditions)
    read = {q.token_ids for q in questions} | ({d.token_ids for d in donors} if lent else set())
    for prompt in read:
        work["sharer prefill"].add(len(prompt) - 1, sharer.span(0, len(prompt) - 1))
    fused = [(c, c.channel) for c in conditions if c.channel]
    ranked = {(c.sends, channel.order) for c, channel in fused if channel.order not in ORACLES}
    shape, heads = geometry(pair.sharer.config), query_heads(pair.sharer)
    for row, question in enumerate(questions):
        n = len(question.token_ids)
        work["receiver prefill"].add(n - 1, receiver.span(0, n - 1))
        work["fusion"].add(0, fuser.own_flops * (n - 1) if fused else 0)
        for _, order in ranked:
            work["scores"].add(0, score_flops(order, shape, heads, n - 1))
        for condition, channel in fused:
            if channel.order in ORACLES:  # merges all to see what that does
                work["scores"].add(0, fuser.merging(Positions.of(range(n - 1)), own_known=False))
            positions = chosen[condition][row]
            if positions.sections:
                work["fusion"].add(fuser.merged_tokens(positions), fuser.merging(positions))
                stop = positions.sections[0].stop  # what follows is read again, section by section
                work["tails"].add(n - 1 - stop, receiver.span(stop, n - 1))
        for condition in conditions:
            model = sharer if condition.system == "sharer" else receiver
            steps = min(forced_lengths[condition][row] + 1, question.task.max_new_tokens)
            work["decoding"].add(
                steps,
                model.span(n - 1, n - 1 + steps) + steps * model.head_flops,
                model.cached_bytes * sum(range(n, n + steps)),
            )
    return work


@torch.inference_mode()
def chosen_tokens(
    pair: LoadedPair,
    conditions: Sequence[Condition],
    questions: Sequence[Question],
    donors: Sequence[Question],
) -> dict[Condition, list[Positions]]:
    """What goes of each question under each condition that sends a cache: the engine's choice."""
    work = Workspace(pair)
    found: dict[Condition, list[Positions]] = {c: [] for c in conditions if c.channel}
    foreseen = any(c.channel.order in ORACLES for c in found if c.channel)
    with slot_attention(pair.receiver, pair.sharer):
        for start in range(0, len(questions), READ_AT_ONCE):
            rows = slice(start, start + READ_AT_ONCE)
            batch = Batch(work, questions[rows], {1: donors[rows]}, 1, _unseen, None)
            sent = batch.sent({c.sends for c in found}, need_queries(found))
            seen = batch.seen(sent, list(found))
            own = batch.read("receiver", batch.prompts) if foreseen else None
            for condition, each in batch.choose(sent, seen, list(found), own).items():
                found[condition] += sent[condition.sends].each(each)
    return found


def _unseen(conditions: Sequence[Condition], logits: torch.Tensor) -> None:
    pass


@cache
def score_flops(order: str, sharer: Geometry, heads: int, tokens: int) -> float:
    """Of ranking one example's tokens; `heads` are those of the queries. 0 where a selector does
    not look at the cache. Counted in a run of one layer, of tensors that have a shape alone."""
    found = selector(order)
    if not isinstance(found, Ranked):
        return 0.0
    sent, query = (
        (torch.empty(1, each, tokens, sharer.head_dim, device="meta"),)
        for each in (sharer.kv_heads, heads)
    )
    norms: dict[Any, Any] = {torch.ops.aten.linalg_vector_norm: _norm_flops}
    with FlopCounterMode(display=False, custom_mapping=norms) as counter:
        found.order(KVCache(sent, sent, query), torch.tensor([tokens], device="meta"))
    return float(sharer.layers * counter.get_total_flops())


def _norm_flops(shape: Sequence[int], *rest: Any, **named: Any) -> int:
    return 2 * prod(shape)


class ModelFlops:
    """Operations of a model, per token and per pair of tokens that attend to each other."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        shape = geometry(config)
        linear = [m for m in model.base_model.modules() if isinstance(m, nn.Linear)]
        self.token_flops = 2 * sum(m.weight.numel() for m in linear)
        self.head_flops = 2 * config.hidden_size * config.vocab_size
        self.pair_flops = 4 * shape.layers * config.num_attention_heads * shape.head_dim
        self.cached_bytes = 2 * shape.layers * shape.width * model.dtype.itemsize

    def span(self, start: int, stop: int) -> float:
        """Running tokens start to stop - 1, each attending to all before and itself."""
        pairs = (start + 1 + stop) * (stop - start) / 2
        return self.token_flops * (stop - start) + self.pair_flops * pairs


class FuserFlops:
    """Operations of a fuser, per token and receiver layer: of the receiver's part of the first
    maps, which all conditions share in a first section, and of all the rest."""

    def __init__(self, pair: LoadedPair) -> None:
        fuser = pair.interface
        assert isinstance(fuser, Fuser)
        self.sources, self.own, self.rest = dict(fuser.sources), {}, {}
        for layer in self.sources:
            self.own[layer], self.rest[layer] = _projector_flops(fuser, layer)
        self.own_flops = sum(self.own.values())

    def merging(self, positions: Positions, own_known: bool = True) -> float:
        """Of merging these tokens. What the receiver has in a section behind the first was read on
        top of what was merged before: its part is not shared."""
        known = positions.sections[0].stop if positions.sections and own_known else 0
        flops = 0.0
        for layer, source in self.sources.items():
            runs = positions.runs(source)
            flops += self.rest[layer] * sum(map(len, runs))
            flops += self.own[layer] * sum(len(run) for run in runs if run.start >= known)
        return flops

    def merged_tokens(self, positions: Positions) -> int:
        """Tokens of a receiver layer, their mean where layers differ."""
        runs = [run for source in self.sources.values() for run in positions.runs(source)]
        return round(sum(map(len, runs)) / len(self.sources))


def _projector_flops(fuser: Fuser, layer: int) -> tuple[float, float]:
    """Per token of one receiver layer: the receiver's part of the first maps, and the rest."""
    projector, own, rest = fuser.projector(layer), 0, 0
    for kind in ("key", "value"):
        if not projector.is_open(kind):
            continue
        first = projector.get_parameter(f"{kind}_in.weight")
        whole = sum(
            p.numel()
            for name, p in projector.named_parameters()
            if name.startswith(f"{kind}_") and p.dim() == 2
        )
        part = first.shape[0] * projector.receiver.width
        own, rest = own + 2 * part, rest + 2 * (whole - part)
    return float(own), float(rest)


def matmul_flops(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of a large square product: 8192 wide on CUDA, 1024 elsewhere and in float32."""
    cuda = device.type == "cuda"
    size, times = (8192, 30) if cuda else (1024, 5)
    a = torch.randn(size, size, device=device, dtype=dtype if cuda else torch.float32)
    return 2 * size**3 * times / _seconds(lambda: a @ a, times, device)


def copy_bytes(device: torch.device) -> float:
    """Bytes a second that are read and written by copying a large tensor."""
    size, times = (2**31 if device.type == "cuda" else 2**26), 10
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size * times / _seconds(lambda: b.copy_(a), times, device)


def _seconds(function: Callable[[], object], times: int, device: torch.device) -> float:
    for _ in range(3):
        function()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        function()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
