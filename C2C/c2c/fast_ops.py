"""A model's small steps in few kernels, for the time of a grid: in 16 bits, where both ways round.
In 32 the model is left as it is, so that every digit is the definition's."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from c2c.fast_gated_mlp import fast_gates
from c2c.fast_rmsnorm import fast_norms
from c2c.fast_rope import fast_rotary


@contextmanager
def fast_steps(*models: PreTrainedModel) -> Iterator[None]:
    """Within, norms, gates and rotary embeddings of the models in 16 bits are fused."""
    # One model may be both sharer and receiver.
    short = [model for model in dict.fromkeys(models) if model.dtype.itemsize == 2]
    with fast_norms(*short), fast_gates(*short), fast_rotary(*short):
        yield
