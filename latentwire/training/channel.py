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
from latentwire.channel.calibration import Calibration
from latentwire.channel.layout import Layout
from latentwire.channel.registry import codec
from latentwire.errors import LatentWireError


def require_trainable(names: Sequence[str]) -> None:
    """LatentWireError for a codec that is calibrated for all layers that a pair sends at once."""
    for name in names:
        if name.startswith("kvtc"):
            raise LatentWireError(
                f"codec={name} is calibrated for just the layers that a pair sends, which are known"
                " once it is trained: train through others, such as klt2"
            )


def mapped_layers(interface: Projectors) -> tuple[int, ...]:
    """The sharer layers that messages have in training: which gates will be open is not known."""
    return tuple(sorted({source.sharer_layer for source in interface.layer_map.values()}))


def codecs_in_the_loop(
    interface: Projectors,
    names: Sequence[str],
    seed: int,
    first: int = 0,
    calibration: Calibration | None = None,
) -> Channels:
    """Each batch's message through one of the codecs, drawn by the batch's number; through none
    where there are none, and before the batch `first`.

    What arrives is what a packet of the same tokens would give, of all `mapped_layers`. Both models
    are frozen, so no gradient passes. `calibration` is for codecs that need one.

    Raises LatentWireError for a codec that `require_trainable` refuses.
    """
    require_trainable(names)
    if not names:
        return not_altered
    layers = mapped_layers(interface)

    def of_batch(number: int) -> Through:
        if number < first:
            return unchanged
        name = random.Random(f"codec:{seed}:{number}").choice(list(names))
        chosen = codec(name, calibration)

        @torch.no_grad()
        def through(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
            layouts = [Layout(interface.sharer, layers, layers, each) for each in runs]
            arrived, _ = chosen.round_trip(sent, layouts)
            return arrived

        return through

    return of_batch
