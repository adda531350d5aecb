"""`turbo`: rotation and Lloyd-Max codebooks, after a calibrated mean is taken from the keys.

    x' = rotation's round trip of (x - R_p mean) + R_p mean

A bias in a model's key projection (Qwen2.5 has one) gives keys a large constant part, which no
random rotation removes: it only spreads it over all channels. The rotary embedding R_p turns that
part with the token's position p, so the mean is taken of keys with the embedding undone, by layer,
head and channel over calibration prompts, and turned to each position before it is subtracted.
Both ends know it; it costs no bytes. Values have no such part and are coded as they are.

Source: TurboQuant (arXiv:2504.19874) for the quantizer, see `rotation`; the mean is this project's
addition. Parameters in the packet: the first 8 bytes of the calibration's sha256.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.on_device import on_device
from latentwire.channel import rope
from latentwire.channel.calibration import Calibration, required
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import DeviceCodec, too_large
from latentwire.channel.kernels.means import Means
from latentwire.channel.layout import Layout, Site, padded_positions
from latentwire.channel.per_tensor import MeansOf, PerTensor, uniform
from latentwire.channel.rotation import Rotation

MOST_TABLED = 4096  # positions whose means are kept on a device


@dataclass(frozen=True)
class Turbo(DeviceCodec):
    """The codec for one calibration; without one, it knows sizes and nothing else."""

    name: str
    number: int
    bits: float
    calibration: Calibration | None = field(compare=False)
    digest: bytes

    def parameters(self, layout: Layout) -> bytes:
        return self.digest

    def write(self, cache: KVCache, layout: Layout, out: Tensor, broken: Tensor) -> None:
        self._rotation.write(cache, layout, out, broken, self._means([layout], out.device))

    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        means, keys = self._means([layout], cache.keys[0].device), [*cache.keys]
        for kind, layer in layout.sent:
            if kind == "key" and (own := means([(kind, layer)])):
                (keys[layer],) = own.moved([keys[layer]], torch.sub)
        return self._rotation.written_alone(KVCache(tuple(keys), cache.values), layout)

    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype, broken: Tensor) -> KVCache:
        means = self._means([layout], data.device)
        return self._rotation.read(data, layout, dtype, broken, means)

    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        self._rotation.caches(data, layout, torch.float32)
        raise too_large(dtype)

    def payload_bytes(self, layout: Layout) -> int:
        return self._rotation.payload_bytes(layout)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        return self._rotation.round_trip(cache, layouts, self._means(layouts, cache.keys[0].device))

    @property
    def _rotation(self) -> PerTensor:
        return _rotation(self.name, self.number, self.bits)

    def _means(self, layouts: Sequence[Layout], device: torch.device) -> MeansOf:
        """What is taken from tensors of a batch [B, H, T, D] with these layouts."""
        calibration = required(self.calibration, self.name)
        if calibration.geometry != layouts[0].geometry:
            raise CodecError(
                f"{self.name} was calibrated for {calibration.geometry},"
                f" not for {layouts[0].geometry}"
            )
        keyed = layouts[0].key_layers
        if not keyed:
            return lambda sites: None
        differ = any(layout.by_layer for layout in layouts)
        if len(layouts) == 1 and layouts[0].tokens and not differ:
            places = [layouts[0].positions()[None]]
        else:
            own_layers = keyed if differ else keyed[:1]
            places = [padded_positions(layouts, layer) for layer in own_layers]
        last = max(int(each.max()) for each in places)
        if last < MOST_TABLED:
            table, largest = _tabled(calibration, 1 << last.bit_length(), device)
        else:
            distinct = torch.unique(torch.cat([each.flatten() for each in places]))
            turned = _turned(calibration, distinct)
            table, largest = on_device(turned, device), float(turned.abs().max())
            places = [torch.searchsorted(distinct, at) for at in places]

        def means(sites: Sequence[Site]) -> Means | None:
            layers = [layer if kind == "key" else -1 for kind, layer in sites]
            own = [layer for layer in layers if layer >= 0]
            if not own:
                return None
            if not differ:
                return Means(table, largest, layers, [0] * len(layers), places[0][None])
            lists = [own.index(layer) if layer >= 0 else 0 for layer in layers]
            at = torch.stack([places[keyed.index(layer)] for layer in own])
            return Means(table, largest, layers, lists, at)

        return means


@cache
def _rotation(name: str, number: int, bits: float) -> PerTensor:
    """One for all packets: much is known by it."""
    return uniform(Rotation(name, number, bits))


def _turned(calibration: Calibration, positions: Tensor) -> Tensor:
    """The keys' means turned to positions [P]: float32 [L, H, P, D]. On the CPU whatever the
    device: a cosine may differ by a bit elsewhere."""
    still = calibration.key_mean[:, :, None].expand(-1, -1, len(positions), -1)
    return rope.redo(still, positions, calibration.inverse_frequencies).contiguous()


@lru_cache(maxsize=4)
def _tabled(calibration: Calibration, count: int, device: torch.device) -> tuple[Tensor, float]:
    """Those of the first `count` positions, on a device; and their largest magnitude."""
    turned = _turned(calibration, torch.arange(count))
    return turned.to(device), float(turned.abs().max())
