"""A toy to train a prefix on: what the sharer alone reads says which of two tokens is right."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from tiny import STOP_ID, make_model, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import geometry
from c2c.prefix_fit import fit_linear, read_alike
from c2c.prefix_projector import ProjectedPrefix, new_prefix
from c2c.projector import ProjectorSize
from c2c.training_readings import Batch
from latentwire.channel.rope import inverse_frequencies

SIZE = ProjectorSize(hidden_dim=16, intermediate_dim=16, num_layers=3, dropout=0.1)


def message_batch(
    messages: Sequence[int], prompt: int = 5, answer: int = 2, seed: int = 0
) -> tuple[Batch, list[Tensor]]:
    """Random prompts of one length behind random messages of these; and each message alone."""
    texts = [token_ids(1, tokens, seed + 10 + n)[0] for n, tokens in enumerate(messages)]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=7)
    rows = len(messages)
    batch = Batch(token_ids(rows, prompt, seed), token_ids(rows, answer, seed + 1))
    return replace(batch, message_ids=ids, message_tokens=list(messages)), texts


def toy_batch(number: int) -> Batch:
    """The answer says which of two tokens the message begins with; messages differ in length."""
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(3, 7, (8,), generator=generator).tolist()
    batch, _ = message_batch(lengths, seed=1000 + 50 * number)
    which = torch.randint(0, 2, (8,), generator=generator)
    assert batch.message_ids is not None
    batch.message_ids[:, 0] = 10 + which
    answers = torch.stack([20 + which, torch.full((8,), STOP_ID)], dim=1)
    return replace(batch, answer_ids=answers)


def toy_parts(
    dropout: float = SIZE.dropout, fitted: bool = True
) -> tuple[PreTrainedModel, PreTrainedModel, ProjectedPrefix]:
    """Receiver, sharer, and the prefix before its first step."""
    receiver, sharer = make_model("qwen3", 1, layers=3), make_model("qwen2", 2, layers=2)
    torch.manual_seed(0)
    prefix = new_prefix(
        geometry(sharer.config),
        geometry(receiver.config),
        replace(SIZE, dropout=dropout),
        (inverse_frequencies(sharer), inverse_frequencies(receiver)),
    )
    if fitted:
        fit_linear(prefix, receiver, sharer, [read_alike(token_ids(8, 40).tolist())])
    return receiver, sharer, prefix
