"""What a codec does to real caches: error of K and V by layer, bytes, and time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.cache import KVCache
from c2c.sections import sections
from latentwire.channel.positions import Positions
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.device_timer import now_s
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import (
    as_batch,
    packet_of,
    read_as_sharer,
    seen_of,
    taken_to_its_own,
)
from latentwire.evaluation.reading import Text, receivers_text, sharers_text
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question

MOST_KEPT = 32  # questions whose caches stay in memory


@dataclass(frozen=True)
class CodecMeasurement:
    """A codec measured on the caches of some questions."""

    key_error: dict[int, float]  # sharer layer -> ||K - K'|| / ||K|| over all questions
    value_error: dict[int, float]
    kl_nats_mean: float  # KL(p || p') of the receiver's next token, uncompressed against codec
    same_token_share: float  # questions whose first greedy token stays the same
    wire_bytes_mean: float
    bits_per_element: float  # all-in: codes, scales, header
    encode_ms_mean: float
    decode_ms_mean: float

    def metrics(self) -> dict[str, float]:
        """All figures but the layers'; errors are means over layers."""
        return {
            "key_error_mean": _mean(self.key_error),
            "value_error_mean": _mean(self.value_error),
            "kl_nats_mean": self.kl_nats_mean,
            "same_token_share": self.same_token_share,
            "wire_bytes_mean": self.wire_bytes_mean,
            "bits_per_element": self.bits_per_element,
            "encode_ms_mean": self.encode_ms_mean,
            "decode_ms_mean": self.decode_ms_mean,
        }


@dataclass(frozen=True)
class Undamaged:
    """What codecs are compared with, of one question."""

    question: Question
    text: Text  # `sharers_text`
    cache: KVCache  # the sharer's, as the model made it: not rounded to 16 bits
    sent: KVCache  # of it the tokens that can be sent
    next_token: Tensor  # the receiver's log-probabilities with that cache: float32 [vocabulary]


Look = Callable[[Question], Undamaged]


def undamaged(pair: LoadedPair) -> Look:
    """Reads a question; those read last are kept, since every codec is measured on the same."""

    @lru_cache(MOST_KEPT)
    @torch.inference_mode()
    def look(question: Question) -> Undamaged:
        text = sharers_text(pair.interface, question)
        cache = read_as_sharer(pair, text)
        sent = cache
        if text.sendable is not None:
            sent = cache.at(torch.tensor(text.sendable, device=pair.device))
        return Undamaged(question, text, cache, sent, _next_token(pair, question, text, sent))

    return look


@torch.inference_mode()
def measure(
    pair: LoadedPair, channel: Channel, questions: Sequence[Question], look: Look | None = None
) -> CodecMeasurement:
    """Send each question's whole cache as a real packet and look at what arrives.

    `look` is what `undamaged` has made for the pair, to be given again for other codecs. Questions
    whose cache cannot be sent are left out. Raises Unanswerable where that is all of them, and
    LatentWireError should the packet and the path without bytes not agree to the bit.
    """
    endpoint = pair.endpoint
    layers = {"key": endpoint.key_layers, "value": endpoint.value_layers}
    error = {kind: torch.zeros(endpoint.geometry.layers, dtype=torch.float64) for kind in layers}
    power = {kind: torch.zeros(endpoint.geometry.layers, dtype=torch.float64) for kind in layers}
    divergence, same, wire_bytes, elements, encode_s, decode_s = 0.0, 0, 0, 0, 0.0, 0.0
    count, refusal = 0, Unanswerable("there is no question")
    look = look or undamaged(pair)
    for place, question in enumerate(questions):
        true = look(question)
        # A codec's first call pays for what later ones find loaded, and kernels for other lengths.
        if place == 0 or pair.device.type == "cuda":
            with suppress(Unanswerable):
                _send(pair, channel, true)
        began = now_s(pair.device)
        try:
            packet, arrived, sent = _send(pair, channel, true)
        except Unanswerable as reason:
            refusal = reason
            continue
        count += 1
        encode_s, decode_s = encode_s + sent - began, decode_s + now_s(pair.device) - sent
        whole = Positions.of(true.text.sent)
        direct = endpoint.simulate(channel, true.cache, [whole])
        _check_same(channel.codec, arrived, direct.cache)
        if direct.wire_bytes != [len(packet)]:
            raise LatentWireError(f"{channel.codec}: a packet is not as long as was counted")
        for kind in layers:
            for layer in layers[kind]:
                was, got = (_tensors(c, kind)[layer].double().cpu() for c in (true.sent, arrived))
                error[kind][layer] += (was - got).square().sum()
                power[kind][layer] += was.square().sum()
                elements += was.numel()
        lossy = _next_token(pair, question, true.text, arrived)
        divergence += float(F.kl_div(lossy, true.next_token, reduction="sum", log_target=True))
        same += int(true.next_token.argmax() == lossy.argmax())
        wire_bytes += len(packet)
    relative = {kind: (error[kind] / power[kind]).sqrt() for kind in layers}
    if not count:
        raise refusal
    return CodecMeasurement(
        key_error={layer: float(relative["key"][layer]) for layer in layers["key"]},
        value_error={layer: float(relative["value"][layer]) for layer in layers["value"]},
        kl_nats_mean=max(0.0, divergence / count),  # rounding can leave -1e-8
        same_token_share=same / count,
        wire_bytes_mean=wire_bytes / count,
        bits_per_element=8 * wire_bytes / max(1, elements),
        encode_ms_mean=1000 * encode_s / count,
        decode_ms_mean=1000 * decode_s / count,
    )


@torch.inference_mode()
def example_packet(
    pair: LoadedPair, channel: Channel, questions: Sequence[Question], look: Look | None = None
) -> bytes:
    """The packet of the first question whose cache can be sent; Unanswerable without any. `look` is
    as `measure` has it."""
    refusal = Unanswerable("there is no question")
    look = look or undamaged(pair)
    for question in questions:
        try:
            true = look(question)
            return packet_of(pair, channel, true.cache, true.text)
        except Unanswerable as reason:
            refusal = reason
    raise refusal


def _send(pair: LoadedPair, channel: Channel, true: Undamaged) -> tuple[bytes, KVCache, float]:
    """A question's packet, the cache that arrives, and the instant (s) between the two."""
    packet = packet_of(pair, channel, true.cache, true.text)
    between = now_s(pair.device)
    _, arrived = pair.endpoint.receive(packet, len(true.text.ids), pair.dtype, pair.device)
    return packet, arrived, between


def _next_token(pair: LoadedPair, question: Question, sent: Text, received: KVCache) -> Tensor:
    """Log-probabilities (float32 [vocabulary]) of the first token of the answer to the receiver's
    prompt, with all of the sharer's cache that can be sent."""
    interface, model, text = pair.interface, pair.receiver, receivers_text(question)
    prompt, kept = as_batch(text.ids, pair.device), Positions.of(sent.sent)
    if interface.inserts:
        where = torch.arange(received.tokens), received.tokens
        prefilled = interface.prefill_behind(model, prompt, received, *where)
    else:
        if aligned := question.prompts.alignment:
            kept, received = taken_to_its_own(aligned, kept, received)
        whole = sections(kept.sections, len(text.ids))
        prefilled = interface.prefill(model, prompt, whole, received, seen_of(text, pair.device))
    return prefilled.logits[0].float().log_softmax(-1)


def _check_same(codec: str, packet: KVCache, direct: KVCache) -> None:
    for kind in ("key", "value"):
        for one, other in zip(_tensors(packet, kind), _tensors(direct, kind), strict=True):
            if not torch.equal(one.nan_to_num(), other.nan_to_num()):
                raise LatentWireError(f"{codec}: what a packet carries is not what was evaluated")


def _tensors(cache: KVCache, kind: str) -> tuple[Tensor, ...]:
    return cache.keys if kind == "key" else cache.values


def _mean(errors: dict[int, float]) -> float:
    return sum(errors.values()) / max(1, len(errors))
