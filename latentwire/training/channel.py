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
from latentwire.channel.cache_codec import arrived
from latentwire.channel.calibration import Calibration
from latentwire.channel.layout import Layout
from latentwire.channel.registry import codec


def mapped_layers(interface: Projectors) -> tuple[int, ...]:
    """The sharer layers that messages have in training: which gates will be open is not known."""
    return tuple(sorted({source.sharer_layer for source in interface.layer_map.values()}))


def codes_layers_together(names: Sequence[str]) -> bool:
    """Whether a calibration serves one of these codecs only where just its layers are sent."""
    return any(name.startswith("kvtc") for name in names)


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
    """
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
            return arrived(chosen, sent, layouts)

        return through

    return of_batch
