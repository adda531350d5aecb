"""Where the training of a prefix begins: at the linear map that comes nearest, layer by layer, to
the receiver's own cache of the same text.

Both models read some texts. Of each receiver layer the means and deviations of what its projector
reads and is to make are taken, and its linear map is the ridge regression of one on the other, over
tokens that belong together: with a tokenizer at each end, those that end in the same character.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.prefix_projector import PrefixProjector, ProjectedPrefix, flattened
from c2c.training_readings import prefill

RIDGE = 1e-3  # of the variance that each of the standardized numbers has
LEAST_DEVIATION = 1e-4  # beside 1 and the mean's size: what varies less is taken for constant


class FitTexts(NamedTuple):
    """Texts [b, T] as each model reads them, filled up on the right, and N tokens of both that
    belong together: a row, and places in the two texts of that row."""

    sharer_ids: Tensor
    receiver_ids: Tensor
    rows: Tensor  # int64 [N]
    sharer_places: Tensor
    receiver_places: Tensor

    @classmethod
    def of(
        cls,
        sharer: Sequence[Sequence[int]],
        receiver: Sequence[Sequence[int]],
        places: Sequence[Sequence[tuple[int, int]]],
        device: str = "cpu",
    ) -> "FitTexts":
        """Of texts in token ids, and of each the places of its pairs, the sharer's first."""
        pairs = [(row, *both) for row, each in enumerate(places) for both in each]
        columns = torch.tensor(pairs, device=device).view(-1, 3).unbind(1)
        return cls(*(_filled(texts).to(device) for texts in (sharer, receiver)), *columns)


def read_alike(texts: Sequence[Sequence[int]], device: str = "cpu") -> FitTexts:
    """Texts that both models read in the same tokens."""
    return FitTexts.of(texts, texts, [[(n, n) for n in range(len(t))] for t in texts], device)


def _filled(texts: Sequence[Sequence[int]]) -> Tensor:
    """Filled up with a token that its model has: behind the end, no real one looks at it."""
    longest = max(map(len, texts))
    return torch.tensor([[*text, *[text[0]] * (longest - len(text))] for text in texts])


@dataclass
class _Moments:
    """Sums over tokens, of what is read [r], what is to be made [w] and their products, with a 1
    behind the former; float64."""

    reads: Tensor | float = 0.0  # [r + 1, r + 1]
    both: Tensor | float = 0.0  # [r + 1, w]
    squares: Tensor | float = 0.0  # [w]

    def add(self, read: Tensor, made: Tensor) -> None:
        read = torch.cat([read, read.new_ones(len(read), 1)], dim=1).double()
        made = made.double()
        self.reads += read.T @ read
        self.both += read.T @ made
        self.squares += made.square().sum(0)


@torch.no_grad()
def fit_linear(
    prefix: ProjectedPrefix,
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    texts: Iterable[FitTexts],
) -> float:
    """Set means, deviations and linear maps of `prefix`, in float32; the share of the variance of
    the receiver's K and V that these then explain, a mean over layers and channels.

    There must be one batch of `texts`.
    """
    moments = [_Moments() for _ in prefix.layer_map]
    for each in texts:
        theirs, own = prefill(sharer, each.sharer_ids), prefill(receiver, each.receiver_ids)
        for sums, (layer, source) in zip(moments, prefix.layer_map.items(), strict=True):
            sites = (
                (theirs, source.sharer_layer, each.sharer_places, "sharer"),
                (own, layer, each.receiver_places, "receiver"),
            )
            found = [
                flattened(
                    cache.keys[at],
                    cache.values[at],
                    torch.arange(cache.tokens, device=each.rows.device),
                    prefix.projector(layer).get_buffer(f"{model}_frequencies"),
                )[each.rows, places]
                for cache, at, places, model in sites
            ]
            sums.add(*found)
    explained = [
        _set(prefix.projector(layer), sums)
        for layer, sums in zip(prefix.layer_map, moments, strict=True)
    ]
    return sum(explained) / len(explained)


def _set(projector: PrefixProjector, sums: _Moments) -> float:
    """The linear map of one layer; the share of the variance that it explains."""
    assert isinstance(sums.reads, Tensor) and isinstance(sums.both, Tensor)
    tokens = sums.reads[-1, -1]
    read_mean, made_mean = sums.reads[-1, :-1] / tokens, sums.both[-1] / tokens
    covariance = sums.reads[:-1, :-1] / tokens - torch.outer(read_mean, read_mean)
    crossed = sums.both[:-1] / tokens - torch.outer(read_mean, made_mean)
    made_variance = sums.squares / tokens - made_mean.square()
    read_scale = _deviation(covariance.diagonal(), read_mean)
    made_scale = _deviation(made_variance, made_mean)
    covariance = covariance / torch.outer(read_scale, read_scale)
    crossed = crossed / torch.outer(read_scale, made_scale)
    ridge = RIDGE * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    linear = torch.linalg.solve(covariance + ridge, crossed)
    projector.linear.weight.copy_(linear.T)
    projector.read_mean.copy_(read_mean)
    projector.read_scale.copy_(1 / read_scale)
    projector.made_mean.copy_(made_mean)
    projector.made_scale.copy_(made_scale)
    left = (linear * (covariance @ linear - 2 * crossed)).sum(0)
    return float(-left.mean())


def _deviation(variance: Tensor, mean: Tensor) -> Tensor:
    return torch.maximum(variance.clamp_min(0).sqrt(), LEAST_DEVIATION * (1 + mean.abs()))
