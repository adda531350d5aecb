"""What a codec does to real caches: error of K and V by layer, bytes, and time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.cache import KVCache, concatenate, tokens_at
from latentwire.channel.batch_codec import BatchCodec
from latentwire.channel.endpoint import Arrived
from latentwire.channel.positions import Positions
from latentwire.channel.registry import codec
from latentwire.channel.sent_rows import SentRows
from latentwire.errors import LatentWireError, Unanswerable
from latentwire.evaluation.device_timer import now_s
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.next_token import NextTokens
from latentwire.evaluation.pipeline import packet_of, read_as_sharer
from latentwire.evaluation.reading import Text, sharers_text
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question

MOST_KEPT = 32  # questions whose caches stay in memory
TOKENS_TOGETHER = 4096  # of questions that are measured at once, padding counted


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
    """What codecs are compared with, of B questions."""

    texts: list[Text]  # `sharers_text`
    caches: list[KVCache]  # the sharer's, as the model made them: not rounded to 16 bits
    sent: list[KVCache]  # of each the tokens that can be sent
    whole: SentRows  # which those are
    batch: KVCache  # `caches` as rows [B, H, T, D]
    receiver: NextTokens
    next_tokens: Tensor  # the receiver's log-probabilities with `sent`: float32 [B, vocabulary]


Look = Callable[[tuple[Question, ...]], Undamaged]


def undamaged(pair: LoadedPair) -> Look:
    """Reads questions; those read last are kept, since every codec is measured on the same."""
    kept: dict[tuple[Question, ...], Undamaged] = {}

    def look(questions: tuple[Question, ...]) -> Undamaged:
        if questions not in kept:
            while kept and sum(map(len, kept)) + len(questions) > MOST_KEPT:
                del kept[next(iter(kept))]
            kept[questions] = _read(pair, questions)
        return kept[questions]

    return look


@torch.inference_mode()
def _read(pair: LoadedPair, questions: Sequence[Question]) -> Undamaged:
    texts = [sharers_text(pair.interface, question) for question in questions]
    caches = [read_as_sharer(pair, text) for text in texts]
    whole = SentRows(Positions.of(text.sent) for text in texts)
    batch = padded_rows(caches)
    sent = tokens_at(batch, [text.sent for text in texts])
    counts = [each.count for each in whole]
    nothing, sure = [0] * len(texts), torch.zeros(len(texts), dtype=torch.bool)
    receiver = NextTokens(pair, questions, texts)
    undamaged = Arrived(whole, sent, lambda: (nothing, nothing), sure, whole)
    next_tokens = receiver.after(undamaged)
    alone = [sent.rows(n, n + 1).section(0, count) for n, count in enumerate(counts)]
    return Undamaged(texts, caches, alone, whole, batch, receiver, next_tokens)


def together(questions: Sequence[Question]) -> Iterator[tuple[Question, ...]]:
    """Neighbours, as many as are measured at once."""
    left = list(questions)
    while left:
        count = 1
        while count < min(len(left), MOST_KEPT // 2):
            longest = max(len(q.prompts.everything) for q in left[: count + 1])
            if (count + 1) * longest > TOKENS_TOGETHER:
                break
            count += 1
        yield tuple(left[:count])
        del left[:count]


@torch.inference_mode()
def measure(
    pair: LoadedPair, channel: Channel, questions: Sequence[Question], look: Look | None = None
) -> tuple[CodecMeasurement, bytes]:
    """Send each question's whole cache as a real packet and look at what arrives; the first of
    these packets.

    `look` is what `undamaged` has made for the pair, to be given again for other codecs. Questions
    whose cache cannot be sent are left out. Raises Unanswerable where that is all of them, and
    LatentWireError should the packet and the path without bytes not agree: to the bit, or of a
    `BatchCodec` on a GPU but for rounding.
    """
    look = look or undamaged(pair)
    total = _Total(pair, channel.codec)
    for part in together(questions):
        total.add(channel, look(part))
    return total.measurement(), total.example


class _Total:
    """A codec's figures over questions, as they are added up."""

    def __init__(self, pair: LoadedPair, name: str) -> None:
        self.pair, endpoint = pair, pair.endpoint
        self.layers = {"key": endpoint.key_layers, "value": endpoint.value_layers}
        zeros = torch.zeros(endpoint.geometry.layers, dtype=torch.float64)
        self.error = {kind: zeros.clone() for kind in self.layers}
        self.power = {kind: zeros.clone() for kind in self.layers}
        self.divergence, self.same, self.count = 0.0, 0, 0
        self.wire_bytes, self.elements = 0, 0
        self.encode_s, self.decode_s = 0.0, 0.0
        self.example, self.warm = b"", False
        # What packets carry may be otherwise rounded than what is evaluated; see `BatchCodec`.
        self.near = pair.device.type != "cpu" and isinstance(codec(name), BatchCodec)
        self.refusal = Unanswerable("there is no question")

    def add(self, channel: Channel, true: Undamaged) -> None:
        """Send some questions' caches."""
        arrived: dict[int, KVCache] = {}
        lengths: dict[int, int] = {}
        for row in range(len(true.texts)):
            # A codec's first call pays for what later ones find loaded, and kernels for other
            # lengths.
            if not self.warm or self.pair.device.type == "cuda":
                with suppress(Unanswerable):
                    _send(self.pair, channel, true, row)
                self.warm = True
            try:
                packet, arrived[row] = self._timed(channel, true, row)
            except Unanswerable as reason:
                self.refusal = reason
                continue
            lengths[row] = len(packet)
            self.example = self.example or packet
        if not arrived:
            return
        endpoint = self.pair.endpoint
        direct = endpoint.simulate(channel, true.batch, true.whole, check=False)
        for row, cache in arrived.items():
            alone = direct.cache.rows(row, row + 1).section(0, cache.tokens)
            _check_same(channel.codec, cache, alone, self.near)
            if direct.wire_bytes[row] != lengths[row]:
                raise LatentWireError(f"{channel.codec}: a packet is not as long as was counted")
            self._add_errors(true.sent[row], cache)
        kept = SentRows(
            each if row in arrived else Positions() for row, each in enumerate(true.whole)
        )
        lossy = true.receiver.after(replace(direct, kept=kept))
        for row in arrived:
            was, got = true.next_tokens[row], lossy[row]
            self.divergence += float(F.kl_div(got, was, reduction="sum", log_target=True))
            self.same += int(was.argmax() == got.argmax())
        self.count += len(arrived)
        self.wire_bytes += sum(lengths.values())

    def _timed(self, channel: Channel, true: Undamaged, row: int) -> tuple[bytes, KVCache]:
        """A question's packet, and the cache that arrives."""
        began = now_s(self.pair.device)
        packet, arrived, sent = _send(self.pair, channel, true, row)
        ended = now_s(self.pair.device)
        self.encode_s, self.decode_s = self.encode_s + sent - began, self.decode_s + ended - sent
        return packet, arrived

    def _add_errors(self, sent: KVCache, arrived: KVCache) -> None:
        for kind, layers in self.layers.items():
            for layer in layers:
                was, got = (_tensors(c, kind)[layer].double().cpu() for c in (sent, arrived))
                self.error[kind][layer] += (was - got).square().sum()
                self.power[kind][layer] += was.square().sum()
                self.elements += was.numel()

    def measurement(self) -> CodecMeasurement:
        """Over all that was added; Unanswerable where that is nothing."""
        if not self.count:
            raise self.refusal
        relative = {kind: (self.error[kind] / self.power[kind]).sqrt() for kind in self.layers}
        key, value = (
            {layer: float(relative[kind][layer]) for layer in layers}
            for kind, layers in self.layers.items()
        )
        return CodecMeasurement(
            key_error=key,
            value_error=value,
            kl_nats_mean=max(0.0, self.divergence / self.count),  # rounding can leave -1e-8
            same_token_share=self.same / self.count,
            wire_bytes_mean=self.wire_bytes / self.count,
            bits_per_element=8 * self.wire_bytes / max(1, self.elements),
            encode_ms_mean=1000 * self.encode_s / self.count,
            decode_ms_mean=1000 * self.decode_s / self.count,
        )


def padded_rows(caches: Sequence[KVCache]) -> KVCache:
    """Caches of one row each as rows of one, filled up with zeros."""
    longest = max(cache.tokens for cache in caches)
    filled = [
        cache.map(lambda tensor: F.pad(tensor, (0, 0, 0, longest - tensor.shape[2])))
        for cache in caches
    ]
    return concatenate(filled, 0)


def _send(
    pair: LoadedPair, channel: Channel, true: Undamaged, row: int
) -> tuple[bytes, KVCache, float]:
    """A question's packet, the cache that arrives, and the instant (s) between the two."""
    text = true.texts[row]
    packet = packet_of(pair, channel, true.caches[row], text)
    between = now_s(pair.device)
    _, arrived = pair.endpoint.receive(packet, len(text.ids), pair.dtype, pair.device)
    return packet, arrived, between


def _check_same(codec: str, packet: KVCache, direct: KVCache, near: bool = False) -> None:
    for kind in ("key", "value"):
        for one, other in zip(_tensors(packet, kind), _tensors(direct, kind), strict=True):
            one, other = one.nan_to_num(), other.nan_to_num()
            if not (torch.equal(one, other) or (near and _near(one, other))):
                raise LatentWireError(f"{codec}: what a packet carries is not what was evaluated")


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether numbers are the same but for the last place of their type, and for what float64's
    rounding becomes in float32 where large numbers were taken from each other."""
    last = torch.finfo(other.dtype).eps
    one, other = one.double(), other.double()
    apart = 2.0**-22 * other.abs().max() + last * other.abs()
    return bool(((one - other).abs() <= apart).all())


def _tensors(cache: KVCache, kind: str) -> tuple[Tensor, ...]:
    return cache.keys if kind == "key" else cache.values


def _mean(errors: dict[int, float]) -> float:
    return sum(errors.values()) / max(1, len(errors))
