"""A pair in memory: both models, the interface between them, and what both ends agreed on."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from c2c.interface import Interface
from latentwire.channel.endpoint import Endpoint


@dataclass(frozen=True)
class LoadedPair:
    """Everything that evaluating one example needs. Both models are on one device, in one dtype."""

    receiver: PreTrainedModel
    sharer: PreTrainedModel
    interface: Interface
    tokenizer: Any  # the receiver's
    endpoint: Endpoint
    sharer_tokenizer: Any = None  # where it is another; None: both models read the same token ids

    def tokenizer_of(self, name: str) -> Any:
        """In whose tokens the `receiver` or the `sharer` reads and writes."""
        return self.sharer_tokenizer or self.tokenizer if name == "sharer" else self.tokenizer

    def model(self, name: str) -> PreTrainedModel:
        """The `receiver` or the `sharer`."""
        return self.receiver if name == "receiver" else self.sharer

    @property
    def device(self) -> torch.device:
        return self.receiver.device

    @property
    def dtype(self) -> torch.dtype:
        return self.receiver.dtype


def stop_ids(model: PreTrainedModel) -> frozenset[int]:
    """The tokens that end an answer of `model`: those of its generation config, into which loading
    a pair puts what its tokenizer and the chat template add (`pairs.prompting`)."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)
