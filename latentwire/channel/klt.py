"""`klt`: transform coding of each layer by itself.

As `kvtc` (the same steps, tables and streams), but a vector is one token's K or V of one layer, all
KV heads together. The transform is that of the layer's own numbers (Karhunen-Loeve), each layer has
the whole rate, and both ends know some megabytes of tables in the place of a gigabyte: a matrix
grows with the square of what it turns. Layers whose numbers are small are not starved for those
whose numbers are large, some thousand calibration tokens are enough, and tokens may differ by
layer.

Source: the transform, allocation and coder of KVTC (arXiv:2511.01815); one transform a layer is
this project's change.

Parameters in the packet: the first 8 bytes of the calibration's sha256. Payload: the length of each
stream but the last (varint), then the streams, of the K of each layer and then of the V.
"""

from collections.abc import Sequence

from latentwire.channel import transform
from latentwire.channel.calibration import required
from latentwire.channel.codec import CodecError
from latentwire.channel.kvtc import KVTC, Block
from latentwire.channel.layout import Layout, Site


class KLT(KVTC):
    """The codec fitted for `bits` a number, for one calibration; without one, it does nothing."""

    def blocks_of(self, sites: Sequence[Site]) -> list[Block]:
        return [(site,) for site in sites]

    def tables(self, block: Block, layout: Layout) -> transform.TransformTables:
        """CodecError for a layer that was not calibrated."""
        calibration = required(self.calibration, self.name)
        ((kind, layer),) = block
        found = calibration.layer_tables.get((kind, layer, self.bits))
        if found is None or layout.geometry != calibration.geometry:
            raise CodecError(
                f"{self.name} was not calibrated for the {kind}s of layer {layer} of"
                f" {layout.geometry}"
            )
        return found
