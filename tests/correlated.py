"""Tokens as a transform finds them: correlated, with variances that fall fast."""

import torch
from torch import Tensor


def correlated(tokens: int, features: int, seed: int, *, directions: int) -> Tensor:
    """Tokens with variances that fall over three decades, in directions that mix all features;
    `directions` is the seed of those."""
    draw = torch.Generator().manual_seed(directions)
    mix = torch.linalg.qr(torch.randn(features, features, generator=draw))[0]
    scale = torch.logspace(1, -2, features)
    draw.manual_seed(seed)
    return torch.randn(tokens, features, generator=draw) * scale @ mix.T + 3.0
