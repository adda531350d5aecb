"""Which rotary embedding a model's keys have; `c2c.rope` takes it off and puts it on again.

Without the rotation keys of different positions vary in the same directions, which a transform
fitted to many positions can use. `redo` is the inverse of `undo` whatever the model's own
convention is; a wrong one only spoils what is gained.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from c2c.cache import geometry
from c2c.rope import redo, undo
from latentwire.errors import LatentWireError

if TYPE_CHECKING:  # it takes seconds to import, and codecs' names do without
    from transformers import PreTrainedModel

__all__ = ["inverse_frequencies", "redo", "undo"]

# Frequencies that depend on nothing but the config; others change with the prompt's length.
_FIXED = ("default", "linear", "llama3")


def inverse_frequencies(model: "PreTrainedModel") -> Tensor:
    """The float32 [D/2] inverse frequencies (CPU) by which `model` rotates all of its keys.

    Raises LatentWireError for a model without rotary embedding or with one that is not a plain
    rotation, the same in every layer and for every prompt.
    """
    kind = getattr(model.config, "model_type", "unknown")
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if rotary is None:
        raise LatentWireError(f"a model of type {kind!r} has no rotary embedding to take off")
    inv_freq = getattr(rotary, "inv_freq", None)
    if not isinstance(inv_freq, Tensor):
        raise LatentWireError(
            f"a model of type {kind!r} rotates keys by other angles in each kind"
            " of layer, which cannot be taken off yet"
        )
    if getattr(rotary, "rope_type", "default") not in _FIXED:
        raise LatentWireError(
            f"a model with rotary embedding of type {rotary.rope_type!r} rotates by angles that"
            " depend on the prompt's length, which cannot be taken off"
        )
    if getattr(rotary, "attention_scaling", 1.0) != 1.0:
        raise LatentWireError(
            f"a model of type {kind!r} scales keys as it rotates them (by"
            f" {rotary.attention_scaling:g}), which cannot be taken off"
        )
    head_dim = geometry(model.config).head_dim
    if 2 * inv_freq.numel() != head_dim:
        raise LatentWireError(
            f"a model of type {kind!r} rotates {2 * inv_freq.numel()} of a key's {head_dim}"
            " numbers, and only a whole rotation can be taken off"
        )
    return inv_freq.detach().float().cpu()
