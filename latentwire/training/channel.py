"""The channel in the loop: what is sent in training goes through real codecs, as in evaluation."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from c2c.cache import KVCache
from c2c.fuser import Projectors
from c2c.sections import Runs
from c2c.training import Channels, not_altered
from c2c.training_loss import Through, unchanged
from latentwire.channel.codec_names import needs_calibration
from latentwire.channel.layout import Layout
from latentwire.channel.registry import codec
from latentwire.errors import LatentWireError


def require_trainable(names: Sequence[str]) -> None:
    """LatentWireError for a codec that needs a calibration, which belongs to a trained pair."""
    for name in names:
        if needs_calibration(name):
            raise LatentWireError(
                f"codec={name} needs a calibration, and one is made for a pair that is trained:"
                " train with other codecs in the loop"
            )


def codecs_in_the_loop(
    interface: Projectors, names: Sequence[str], seed: int, first: int = 0
) -> Channels:
    """Each batch's message through one of the codecs, drawn by the batch's number; through none
    where there are none, and before the batch `first`.

    What arrives is what a packet of the same tokens would give, of every layer that the interface
    maps: which gates will be open is not known yet. Both models are frozen, so no gradient passes.

    Raises LatentWireError for a codec that `require_trainable` refuses.
    """
    require_trainable(names)
    if not names:
        return not_altered
    layers = tuple(sorted({source.sharer_layer for source in interface.layer_map.values()}))

    def of_batch(number: int) -> Through:
        if number < first:
            return unchanged
        chosen = codec(random.Random(f"codec:{seed}:{number}").choice(list(names)))

        @torch.no_grad()
        def through(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
            layouts = [Layout(interface.sharer, layers, layers, each) for each in runs]
            arrived, _ = chosen.round_trip(sent, layouts)
            return arrived

        return through

    return of_batch
