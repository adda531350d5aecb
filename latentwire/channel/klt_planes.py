"""`planes1_klt` and the like: bit planes of what `klt` codes.

As `planes`, but a row is a component of a layer's transform (`klt`): numbers along the directions
in which the layer's K or V varies most, about the calibration's mean. Most of what varies lies in
few rows, which go first; the others take no bit until theirs are as fine. Both ends know basis
and mean, so that a row's head is one byte. The components are those of klt's highest rate; what
the others hold is lost.

Parameters in the packet: the first 8 bytes of the calibration's sha256. Payload: as of `planes`,
the head of a tensor being 7 bytes of levels and a byte a row, its reach (see `nested_quantizer`).
Arithmetic of the transform is in float64 on the CPU, example by example, as in `transform`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from c2c.cache import KVCache
from latentwire.channel import nested_quantizer
from latentwire.channel.calibration import LAYER_RATES, Calibration
from latentwire.channel.klt import KLT
from latentwire.channel.layout import Layout, Site, example, tensor_of
from latentwire.channel.nested_quantizer import LEVELS, Nested
from latentwire.channel.planes import Planes, empty, own_tokens
from latentwire.channel.transform import TransformTables

NUMBER = 71


@dataclass(frozen=True)
class KLTPlanes(Planes):
    """`Planes` for one calibration; without one, it does nothing."""

    calibration: Calibration | None = field(default=None, compare=False)
    digest: bytes = b""
    number: int = NUMBER

    def parameters(self, layout: Layout) -> bytes:
        return self.digest

    def payload_bytes(self, layout: Layout) -> None:
        return None

    def coded(self, cache: KVCache, site: Site, layouts: Sequence[Layout]) -> Nested:
        tables = self._tables(site, layouts[0])
        rows = torch.zeros(len(layouts), tables.components, tensor_of(cache, *site).shape[2])
        for row, layout in enumerate(layouts):
            if layout.tokens_of(site[1]):
                x = self._klt.vectors(example(cache, row, layout), (site,), layout)
                z = (x.double() - tables.wide_mean) @ tables.wide_basis
                rows[row, :, : len(z)] = z.T.float()
        return nested_quantizer.quantize_about_zero(rows, own_tokens(rows, site, layouts))

    def uncoded(self, rows: Tensor, site: Site, layouts: Sequence[Layout]) -> Tensor:
        tables, geometry = self._tables(site, layouts[0]), layouts[0].geometry
        shape = (len(layouts), geometry.kv_heads, rows.shape[2], geometry.head_dim)
        whole = torch.zeros(shape)
        for row, layout in enumerate(layouts):
            if tokens := layout.tokens_of(site[1]):
                z = rows[row, :, :tokens].T.double()
                x = (z @ tables.wide_basis.T + tables.wide_mean).float()
                whole[row, :, :tokens] = self._klt.tensors(x, (site,), layout)[site][0]
        return whole

    def head_bytes_of(self, site: Site, layout: Layout) -> int:
        return LEVELS + self._tables(site, layout).components

    def head(self, coded: Nested) -> bytes:
        levels = coded.levels.numpy().tobytes()
        return levels + nested_quantizer.reach_bytes(coded.reach).numpy().tobytes()

    def read_head(self, head: bytes, tokens: int) -> Nested:
        coarse = torch.frombuffer(bytearray(head), dtype=torch.uint8)[None, LEVELS:]
        reach = nested_quantizer.reach_of(coarse)
        return empty(head, reach, torch.zeros_like(reach), tokens)

    @property
    def _klt(self) -> KLT:
        return KLT(self.name, self.number, LAYER_RATES[-1], self.calibration, self.digest)

    def _tables(self, site: Site, layout: Layout) -> TransformTables:
        return self._klt.tables((site,), layout)
