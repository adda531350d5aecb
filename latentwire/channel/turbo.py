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

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel import rope
from latentwire.channel.calibration import Calibration, required
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.layout import Layout
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.rotation import Rotation


@dataclass(frozen=True)
class Turbo:
    """The codec for one calibration; without one, it knows sizes and nothing else."""

    name: str
    number: int
    bits: float
    calibration: Calibration | None = field(compare=False)
    digest: bytes

    def parameters(self, layout: Layout) -> bytes:
        return self.digest

    def encode(self, cache: KVCache, layout: Layout) -> bytes:
        return self._at([layout], cache.keys[0].device).encode(cache, layout)

    def decode(self, data: memoryview, layout: Layout) -> KVCache:
        return self._at([layout], torch.device("cpu")).decode(data, layout)

    def payload_bytes(self, layout: Layout) -> int:
        return sum(self._plain.payload_bytes(layout.shape_of(layer)) for _, layer in layout.sent)

    def round_trip(self, cache: KVCache, layouts: Sequence[Layout]) -> tuple[KVCache, list[int]]:
        return self._at(layouts, cache.keys[0].device, batch=True).round_trip(cache, layouts)

    @property
    def _plain(self) -> Rotation:
        return Rotation(self.name, self.number, self.bits)

    def _at(
        self, layouts: Sequence[Layout], device: torch.device, batch: bool = False
    ) -> PerTensor:
        """The codec of each tensor of a batch with these layouts, or of one example."""
        calibration = required(self.calibration, self.name)
        if calibration.geometry != layouts[0].geometry:
            raise CodecError(
                f"{self.name} was calibrated for {calibration.geometry},"
                f" not for {layouts[0].geometry}"
            )
        layers = layouts[0].key_layers or (0,)
        differ = any(layout.by_layer for layout in layouts)
        one = {layer: _padded(layouts, layer) for layer in (layers if differ else layers[:1])}
        # On the CPU whatever the device: a cosine may differ by a bit elsewhere.
        distinct = torch.unique(torch.cat([each.flatten() for each in one.values()]))
        places = {
            layer: torch.searchsorted(distinct, each).to(device) for layer, each in one.items()
        }
        sent = {layer: row for row, layer in enumerate(layers)}
        still = calibration.key_mean[list(sent), :, None].expand(-1, -1, len(distinct), -1)
        turned = rope.redo(still, distinct, calibration.inverse_frequencies).to(device)

        def at(kind: str, layer: int) -> Codec:
            if kind == "value":
                return self._plain
            place = places[layer if differ else layers[0]]
            mean = turned[sent[layer]][:, place].transpose(0, 1)  # [B, H, T, D]
            return self._plain.with_mean(mean if batch else mean[0])

        return PerTensor(self.name, self.number, self.bits, at, self.digest)


def _padded(layouts: Sequence[Layout], layer: int) -> Tensor:
    """What each example sends of a layer, [B, T]; shorter rows repeat their last position, and a
    row of none the prompt's first."""
    rows = [layout.positions(layer) for layout in layouts]
    rows = [
        row if len(row) else row.new_tensor([layout.first_position])
        for row, layout in zip(rows, layouts, strict=True)
    ]
    longest = max(map(len, rows))
    return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
