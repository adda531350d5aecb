"""A toy to train a fuser on: in memory, seeded, learnt in a second."""

from dataclasses import replace

import torch
from tiny import STOP_ID, make_fuser, make_model, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.fuser import Fuser
from c2c.projector import ProjectorSize
from c2c.training import TrainingSettings
from c2c.training_readings import Batch

SIZE = ProjectorSize(hidden_dim=16, intermediate_dim=16, num_layers=3, dropout=0.1)
# Everything that draws random numbers or keeps state is on.
SETTINGS = TrainingSettings(
    steps=10,
    learning_rate=1e-2,
    accumulation=2,
    gate_penalty=0.05,
    guard_weight=0.5,
    partial_share=0.5,
    checkpoint_every=3,
)


def toy_batch(number: int) -> Batch:
    """The answer says which of two tokens the prompt begins with."""
    generator = torch.Generator().manual_seed(number)
    prompts = torch.randint(50, 400, (8, 6), generator=generator)
    which = torch.randint(0, 2, (8,), generator=generator)
    prompts[:, 0] = 10 + which
    return Batch(prompts, torch.stack([20 + which, torch.full((8,), STOP_ID)], dim=1))


def toy_parts(dropout: float = SIZE.dropout) -> tuple[PreTrainedModel, PreTrainedModel, Fuser]:
    receiver, sharer = make_model("qwen3", 1, layers=2), make_model("qwen2", 2, layers=2)
    return receiver, sharer, make_fuser(sharer, receiver, size=replace(SIZE, dropout=dropout))


def same(first: Fuser, second: Fuser) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def padded(row: Tensor, left: int, right: int = 0, value: int = 7) -> tuple[Tensor, Tensor]:
    ids = torch.cat([torch.full((left,), value), row, torch.full((right,), value)])[None]
    mask = torch.cat([torch.zeros(left), torch.ones(len(row)), torch.zeros(right)])[None].long()
    return ids, mask


def mixed_batch(
    lengths: tuple[int, ...], pad: int, device: str = "cpu"
) -> tuple[Batch, list[Batch]]:
    """Conversations whose prompts have these lengths, padded together, and each alone."""
    alone = [Batch(token_ids(1, n, seed=n), token_ids(1, 2 + n % 2, seed=50 + n)) for n in lengths]
    left, right = max(lengths), max(b.answer_ids.shape[1] for b in alone)
    rows = []
    for one in alone:
        prompt, answer = one.prompt_ids[0], one.answer_ids[0]
        before, behind = left - len(prompt), right - len(answer)
        rows.append((*padded(prompt, before, value=pad), *padded(answer, 0, behind, value=pad)))
    ids, mask, answers, answer_mask = (torch.cat(parts) for parts in zip(*rows, strict=True))
    moved = [Batch(b.prompt_ids.to(device), b.answer_ids.to(device)) for b in alone]
    return Batch(ids.to(device), answers.to(device), mask, answer_mask), moved
