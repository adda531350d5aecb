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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.on_device import on_device
from latentwire.channel import rope
from latentwire.channel.calibration import Calibration, required
from latentwire.channel.codec import CodecError
from latentwire.channel.device_codec import DeviceCodec, cast_unchecked, too_large
from latentwire.channel.layout import Layout, padded_positions, tensor_of
from latentwire.channel.per_tensor import PerTensor, uniform
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

    def write(self, cache: KVCache, layout: Layout, out: Tensor) -> Tensor:
        return self._rotation.write(self._moved(cache, [layout], torch.sub), layout, out)

    def written_alone(self, cache: KVCache, layout: Layout) -> Tensor:
        return self._rotation.written_alone(self._moved(cache, [layout], torch.sub), layout)

    def read(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> tuple[KVCache, Tensor]:
        arrived, doubt = self._rotation.read(data, layout, torch.float32)
        moved = self._moved(arrived, [layout], torch.add)
        found, held = cast_unchecked(moved, layout, dtype, data.device)
        return found, doubt | held

    def refuse(self, data: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        self._rotation.caches(data, layout, torch.float32)
        raise too_large(dtype)

    def payload_bytes(self, layout: Layout) -> int:
        return self._rotation.payload_bytes(layout)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        still = self._moved(cache, layouts, torch.sub)
        arrived, lengths = self._rotation.round_trip(still, layouts)
        moved, like = self._moved(arrived, layouts, torch.add), cache.keys[0]
        tensors = {site: tensor_of(moved, *site).to(like.dtype) for site in layouts[0].sites}
        return layouts[0].cache(tensors, like), lengths

    @cached_property
    def _rotation(self) -> PerTensor:
        return uniform(Rotation(self.name, self.number, self.bits))

    def _moved(
        self, cache: KVCache, layouts: Sequence[Layout], by: Callable[[Tensor, Tensor], Tensor]
    ) -> KVCache:
        """A batch [B, H, T, D] with these layouts whose keys (float32) are taken from their means,
        or have them added."""
        keys = list(cache.keys)
        for layers, means in self._means(layouts, keys[0].device):
            moved = by(torch.stack([keys[layer] for layer in layers]), means)
            for layer, key in zip(layers, moved.unbind(), strict=True):
                keys[layer] = key
        return KVCache(tuple(keys), cache.values)

    def _means(
        self, layouts: Sequence[Layout], device: torch.device
    ) -> list[tuple[tuple[int, ...], Tensor]]:
        """Layers whose keys stand at the same positions, with their means there, float32
        [layers, B, H, T, D]."""
        calibration = required(self.calibration, self.name)
        if calibration.geometry != layouts[0].geometry:
            raise CodecError(
                f"{self.name} was calibrated for {calibration.geometry},"
                f" not for {layouts[0].geometry}"
            )
        if not (layers := layouts[0].key_layers):
            return []
        differ = any(layout.by_layer for layout in layouts)
        groups = [(layer,) for layer in layers] if differ else [layers]
        places = [padded_positions(layouts, group[0]) for group in groups]
        last = max(int(each.max()) for each in places)
        if last < MOST_TABLED:
            turned = _tabled(calibration, 1 << last.bit_length(), device)
        else:
            distinct = torch.unique(torch.cat([each.flatten() for each in places]))
            turned = on_device(_turned(calibration, distinct), device)
            places = [torch.searchsorted(distinct, at) for at in places]

        def means(group: tuple[int, ...], at: Tensor) -> Tensor:
            all_of_them = group == tuple(range(len(turned)))
            own = turned if all_of_them else torch.stack([turned[n] for n in group])
            return own[:, :, on_device(at, device)].transpose(1, 2)

        return [(group, means(group, at)) for group, at in zip(groups, places, strict=True)]


def _turned(calibration: Calibration, positions: Tensor) -> Tensor:
    """The keys' means turned to positions [P]: float32 [L, H, P, D]. On the CPU whatever the
    device: a cosine may differ by a bit elsewhere."""
    still = calibration.key_mean[:, :, None].expand(-1, -1, len(positions), -1)
    return rope.redo(still, positions, calibration.inverse_frequencies)


@lru_cache(maxsize=4)
def _tabled(calibration: Calibration, count: int, device: torch.device) -> Tensor:
    """Those of the first `count` positions, on a device."""
    return _turned(calibration, torch.arange(count)).to(device)
