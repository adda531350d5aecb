"""What the rest of the program needs to know of an interface before it is in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from c2c.cache import Geometry
from c2c.fuser import Projectors
from c2c.interface import Interface
from c2c.projector import ProjectorSize

# Of both models' rotary embeddings, in radians a position: the sharer's [Ds/2], the receiver's
# [Dt/2].
Frequencies = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Weights:
    """How an interface's weights are read: from the files of `projector_*.json` and `.pt`, whose
    descriptions name one of `checkpoint_classes`."""

    checkpoint_classes: tuple[str, ...]
    # (folder, sharer, receiver, dtype, device) -> frozen, in eval mode; C2CError for files that are
    # damaged or do not fit the pair.
    load: Callable[[Path, Geometry, Geometry, torch.dtype, str], Interface]
    # (folder, sharer, receiver) -> how many projectors there are; the same errors, as far as the
    # descriptions tell, without a tensor read.
    require_fit: Callable[[Path, Geometry, Geometry], int]
    # (sharer, receiver, size, frequencies) -> untrained, in float32, on the CPU. To ask for the
    # frequencies may raise LatentWireError, for models whose keys are rotated in other ways. None
    # where an interface cannot be trained.
    new: Callable[[Geometry, Geometry, ProjectorSize, Frequencies], Projectors] | None = None


@dataclass(frozen=True)
class Plug:
    """What an interface is made of: weights that were trained for a pair, nothing, or either."""

    inserts: bool  # as `Interface.inserts`
    weights: Weights | None = None
    # (sharer, receiver) -> the interface of a pair without weights, where it needs none;
    # LatentWireError for models that it does not serve.
    without_weights: Callable[[Geometry, Geometry], Interface] | None = None
