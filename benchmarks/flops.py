"""Floating-point operations and bytes of a grid, counted from shapes: no padding, no waste."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from c2c.cache import geometry
from c2c.fuser import Fuser
from c2c.sections import split
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Condition
from latentwire.tasks.question import Question


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
    forced_lengths: dict[Condition, list[int]],
) -> dict[str, Work]:
    """Phase -> work, everything that conditions share counted once.

    A multiply and an add are two operations. Decoding runs one step more than an answer has
    tokens, unless it is as long as answers may be.
    """
    work = {name: Work() for name in ("sharer prefill", "receiver prefill", "fusion", "tails")}
    work["decoding"] = Work()
    receiver, sharer = ModelFlops(pair.receiver), ModelFlops(pair.sharer)
    lent = any(c.control == "deranged" for c in conditions)
    read = {q.token_ids for q in questions} | ({d.token_ids for d in donors} if lent else set())
    for prompt in read:
        work["sharer prefill"].add(len(prompt) - 1, sharer.span(0, len(prompt) - 1))
    own_flops, token_flops = _fuser_flops(pair)
    for row, question in enumerate(questions):
        n = len(question.token_ids)
        work["receiver prefill"].add(n - 1, receiver.span(0, n - 1))
        fused = any(c.channel for c in conditions)
        work["fusion"].add(0, own_flops * (n - 1) if fused else 0)
        for condition in conditions:
            channel = condition.channel
            if channel is not None:
                for section in split(n, channel.keep_ratio, channel.order):
                    if section.sharer_mask > 0:
                        tokens, stop = section.stop - section.start, section.stop
                        work["fusion"].add(tokens, token_flops * tokens)
                        work["tails"].add(n - 1 - stop, receiver.span(stop, n - 1))
            model = sharer if condition.system == "sharer" else receiver
            steps = min(forced_lengths[condition][row] + 1, question.task.max_new_tokens)
            work["decoding"].add(
                steps,
                model.span(n - 1, n - 1 + steps) + steps * model.head_flops,
                model.cached_bytes * sum(range(n, n + steps)),
            )
    return work


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


def _fuser_flops(pair: LoadedPair) -> tuple[float, float]:
    """Per token: the receiver's part of the first maps, and all the rest."""
    fuser, own, rest = pair.interface, 0, 0
    assert isinstance(fuser, Fuser)
    for layer in fuser.layer_map:
        projector = fuser.projector(layer)
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
