"""Where the training of a prefix begins: at the linear map that comes nearest, layer by layer, to
the receiver's own cache of the same text.

Both models read some texts. Of each receiver layer the means and deviations of what its projector
reads and is to make are taken, and its linear map is the ridge regression of one on the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.prefix_projector import PrefixProjector, ProjectedPrefix, flattened
from c2c.training_readings import prefill

RIDGE = 1e-3  # of the variance that each of the standardized numbers has
LEAST_DEVIATION = 1e-4  # beside 1 and the mean's size: what varies less is taken for constant


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
    texts: Iterable[tuple[Tensor, list[int]]],
) -> float:
    """Set means, deviations and linear maps of `prefix`, in float32; the share of the variance of
    the receiver's K and V that these then explain, a mean over layers and channels.

    `texts` are batches of token ids [b, T], filled up on the right, and how many of each row's are
    real: of one tokenizer, for both models read them. There must be one.
    """
    moments = [_Moments() for _ in prefix.layer_map]
    for ids, counts in texts:
        positions = torch.arange(ids.shape[1], device=ids.device)
        real = positions < torch.tensor(counts, device=ids.device)[:, None]
        theirs, own = (prefill(model, ids) for model in (sharer, receiver))
        for sums, (layer, source) in zip(moments, prefix.layer_map.items(), strict=True):
            sites = ((theirs, source.sharer_layer, "sharer"), (own, layer, "receiver"))
            found = [
                flattened(
                    cache.keys[place],
                    cache.values[place],
                    positions,
                    prefix.projector(layer).get_buffer(f"{model}_frequencies"),
                )[real]
                for cache, place, model in sites
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
