"""Rate allocation: which tokens go, and in which of a codec's classes (`by_token`), by distortion.

What is lost of token t in class c is taken for

    weight[t] * error[c]        error[dropped] = 1

`weight` is the selector's score of the token, or the same for all where it only orders them (or
scores below 0, as a negated norm: that is an order, no worth);
`error` is measured on the message itself: the L2 norm of what the class loses of all its tokens,
over theirs, mean over the tensors sent; a norm, as scores are. Both are the sender's own, and say
nothing of what the receiver minds. Of the classes those on the lower convex hull of error over
bytes a token are used, and steps along it, each of one token to its next class, are taken in the
order of what they save a byte, until one more would not fit the packet: of all such allocations of
as many bytes the one that loses least (reverse water-filling; Shoham and Gersho 1988). Tokens come
in the selector's order, so that with one class it is the selection.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.on_device import on_device
from latentwire.channel.by_token import ByToken
from latentwire.channel.endpoint import Endpoint, gather
from latentwire.channel.layout import Layout, tensor_of
from latentwire.channel.oracles.registry import chooses_by_layer
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.positions import Positions
from latentwire.channel.registry import codec
from latentwire.channel.selectors.ranked import ByScore
from latentwire.channel.selectors.registry import selector
from latentwire.channel.selectors.scores import over_layers
from latentwire.channel.selectors.seen import ranks_of_rows
from latentwire.channel.selectors.selector import Choose
from latentwire.channel.sent_rows import SentRows
from latentwire.errors import LatentWireError
from latentwire.spec.condition import Channel

EXACT_BITS = 12  # of weights and errors: sums in another order must not choose
DROPPED = 1.0  # the error of what is not sent
LARGEST_ERROR = 0.999  # of the best class, however bad it is: something is sent
FEW, MANY = 1, 129  # tokens between which bytes a token are counted

Step = tuple[int, int]  # of the token at a place in the selector's order, to a class


@dataclass
class Allocator:
    """Of a batch of messages: row b of `cache` (tensors [B, H, T, D]) has tokens[b] tokens. What
    channels have in common is worked out once."""

    endpoint: Endpoint
    cache: KVCache
    tokens: Sequence[int]
    _orders: dict[tuple[str, float], list[list[int]]] = field(default_factory=dict)
    _weights: dict[str, list[list[float]]] = field(default_factory=dict)
    _errors: dict[str, list[float]] = field(default_factory=dict)

    def chooser(
        self, channel: Channel, by_token: ByToken, pick: Choose
    ) -> tuple[Choose, list[int]]:
        """Of each message what goes after so many steps, and how many steps there are. `pick` is
        the selector's choice. LatentWireError for a selector of layers."""
        if not any(self.tokens):  # prompts of one token
            return lambda steps: [Positions()] * len(steps), [0] * len(self.tokens)
        costs = [self._token_bytes(each) for each in by_token.classes]
        errors = self._errors_of(by_token.classes)
        weights = self._weights_of(channel.order)
        found: list[Callable[[int], Positions]] = []
        counts = []
        for row, order in enumerate(self._orders_of(channel, pick)):
            hull = _hull(costs, [error[row] for error in errors])
            steps = _steps(weights[row][: len(order)] if weights else [1.0] * len(order), hull)
            told = self.tokens[row] if self.endpoint.inserts else 0
            found.append(partial(_after, order, steps, told))
            counts.append(len(steps))
        return lambda taken: [found[row](steps or 0) for row, steps in taken.items()], counts

    def _orders_of(self, channel: Channel, pick: Choose) -> list[list[int]]:
        """Each message's tokens, in the order in which the selector takes them as more may go."""
        key = channel.order, channel.keep_ratio
        if key not in self._orders:
            if chooses_by_layer(channel.order):
                raise LatentWireError(
                    f"order {channel.order} chooses by layer, and bits are given to whole tokens;"
                    " take another order"
                )
            told = zip(range(len(self.tokens)), self.tokens, self._ranked(channel), strict=True)
            self._orders[key] = [_as_more_go(pick, *each) for each in told]
        return self._orders[key]

    def _ranked(self, channel: Channel) -> list[list[int]]:
        """Each message's tokens in the selector's order, where it ranks them; else nothing."""
        found = selector(channel.order)
        if not isinstance(found, ByScore):
            return [[] for _ in self.tokens]
        ranks = ranks_of_rows([found], self.cache, self.tokens)
        return [
            found.as_more_go(row[found], tokens)
            for row, tokens in zip(ranks, self.tokens, strict=True)
        ]

    def _weights_of(self, order: str) -> list[list[float]]:
        """Each message's weights, the largest first; nothing where the selector has no scores."""
        if order not in self._weights:
            found = selector(order)
            if not isinstance(found, ByScore):
                return []
            counts = on_device(torch.tensor(self.tokens), self.cache.keys[0].device)
            (scores,) = over_layers(found.scores(self.cache, counts), counts)
            real = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
            sorted_scores = scores.where(real, 0).sort(descending=True).values
            self._weights[order] = [
                [1.0] * len(row) if row[-1] < 0 else list(map(_rough, row))
                for row in sorted_scores.tolist()
            ]
        return self._weights[order]

    def _errors_of(self, classes: Sequence[PerTensor]) -> list[list[float]]:
        """Of each codec what it loses of each message, as a share of what is sent. Waits for the
        device once."""
        if missing := [each for each in classes if each.name not in self._errors]:
            every = SentRows(Positions.of(range(count)) for count in self.tokens)
            whole = gather(self.cache, every)
            lost = torch.stack([self._lost(whole, each) for each in missing])
            for each, errors in zip(missing, lost.nan_to_num(DROPPED).tolist(), strict=True):
                self._errors[each.name] = list(map(_rough, errors))
        return [self._errors[each.name] for each in classes]

    def _lost(self, whole: KVCache, tensors: PerTensor) -> Tensor:
        layouts = [self._layout(max(1, count)) for count in self.tokens]
        arrived, _ = tensors.round_trip(whole, layouts)
        counts = on_device(torch.tensor(self.tokens), self.cache.keys[0].device)
        real = torch.arange(whole.tokens, device=counts.device) < counts[:, None]
        lost = [
            share_lost(tensor_of(whole, *site), tensor_of(arrived, *site), real)
            for site in layouts[0].sites
        ]
        return torch.stack(lost).mean(0) if lost else torch.zeros(len(layouts))

    def _token_bytes(self, tensors: PerTensor) -> float:
        sizes = [tensors.payload_bytes(self._layout(tokens)) for tokens in (FEW, MANY)]
        return (sizes[1] - sizes[0]) / (MANY - FEW)

    def _layout(self, tokens: int) -> Layout:
        header = self.endpoint.header(Channel("bf16"), Positions.of(range(tokens)))
        assert header is not None
        return header.layout


def allocates(channel: Channel) -> ByToken | None:
    """The codec of a channel that gives tokens their bits within a budget; None for others."""
    found = codec(channel.codec) if channel.has_budget else None
    return found if isinstance(found, ByToken) else None


def _as_more_go(pick: Choose, row: int, most: int, ranked: Sequence[int]) -> list[int]:
    """A message's tokens that are taken of one, two, ... `most`, in the order in which they come
    in. Where it is known (`ranked`, by numbers among those that can be sent), it is asked once
    which go."""
    if ranked:
        taken = pick({row: most})[0].tokens(0)
        known = ranked[: len(taken)]
        where = dict(zip(sorted(known), taken, strict=True))
        return [where[number] for number in known]
    asked = (token for count in range(1, most + 1) for token in pick({row: count})[0].tokens(0))
    return list(dict.fromkeys(asked))


def share_lost(sent: Tensor, arrived: Tensor, real: Tensor) -> Tensor:
    """Norm of the error over the norm, of each row's tokens that are `real` (bool [B, T]): [B]."""
    mask = real[:, None, :, None]
    sent, arrived = (x.float().where(mask, 0) for x in (sent, arrived))
    squares = sent.double().square().sum((1, 2, 3))
    lost = (sent - arrived).double().square().sum((1, 2, 3))
    return (lost / squares.clamp_min(1e-300)).sqrt()


def _rough(value: float) -> float:
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(fraction * 2**EXACT_BITS), exponent - EXACT_BITS)


def _hull(costs: Sequence[float], errors: Sequence[float]) -> list[tuple[float, int]]:
    """The lower convex hull of error over bytes, from what is dropped on: of each class on it, by
    rising cost, what a byte saves on the way to it, and which it is."""
    least = min(errors)
    errors = [min(error, LARGEST_ERROR) if error == least else error for error in errors]
    hull: list[tuple[float, float, int]] = [(0.0, DROPPED, -1)]
    for cost, error, place in sorted(zip(costs, errors, range(len(costs)), strict=True)):
        if error >= hull[-1][1] or cost <= hull[-1][0]:  # of no layer a token takes no byte
            continue
        while len(hull) > 1 and _slope(hull[-1], (cost, error)) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append((cost, error, place))
    return [(_slope(hull[n - 1], hull[n]), hull[n][2]) for n in range(1, len(hull))]


def _slope(first: Sequence[float], second: Sequence[float]) -> float:
    return (first[1] - second[1]) / (second[0] - first[0])


def _steps(weights: Sequence[float], hull: Sequence[tuple[float, int]]) -> list[Step]:
    """All steps, those that save most a byte first; `weights` fall."""
    worth = [
        (-weight * slope, place, number, to)
        for place, weight in enumerate(weights)
        for number, (slope, to) in enumerate(hull)
    ]
    return [(place, to) for _, place, _, to in sorted(worth)]


def _after(order: Sequence[int], steps: Sequence[Step], text_tokens: int, count: int) -> Positions:
    """What goes after so many steps, of a text of so many tokens where that is told (not 0)."""
    classes = {order[place]: to for place, to in steps[:count]}
    found = replace(
        Positions.of(classes), classes=bytes(classes[token] for token in sorted(classes))
    )
    return found.told(text_tokens) if text_tokens else found
