"""Both ends of a wire for a tiny cache, and caches for it."""

import torch
from calibrations import make_calibration

from c2c.cache import Geometry, KVCache
from latentwire.channel.endpoint import Endpoint

GEOMETRY = Geometry(layers=3, kv_heads=2, head_dim=6)
CALIBRATION = make_calibration(GEOMETRY, (0, 2), (1, 2))
LINK = Endpoint(b"the pair", GEOMETRY, (0, 2), (1, 2), CALIBRATION)


def make_cache(tokens: int, batch: int = 1, geometry: Geometry = GEOMETRY) -> KVCache:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, geometry.kv_heads, tokens, geometry.head_dim)

    def layers() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(shape, generator=generator) for _ in range(geometry.layers))

    return KVCache(layers(), layers())
