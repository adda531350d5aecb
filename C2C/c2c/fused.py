"""A model's small steps in few kernels, for the time of a grid: in 16 bits, where both ways round.
In 32 the model is left as it is, so that every digit is the definition's."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from c2c.norms import fused_norms
from c2c.rotary import fused_rotary


@contextmanager
def fused_steps(*models: PreTrainedModel) -> Iterator[None]:
    """Within, norms and rotary embeddings of the models in 16 bits are fused."""
    short = [model for model in models if model.dtype.itemsize == 2]
    with fused_norms(*short), fused_rotary(*short):
        yield
