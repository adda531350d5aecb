"""Tokens one by one, of runs: worked out on the device, where there may be millions of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from c2c.on_device import on_device
from latentwire.channel.positions import Positions


def tokens_of_runs(
    runs: Sequence[tuple[int, ...]], tokens: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of each token of runs of so many `tokens`, one run after the other: its run's numbers, int64
    [M, len(runs[0])], and its place in the run, int64 [M]. Waits for no device."""
    counts = on_device(torch.tensor(tokens), device)
    of_run = torch.arange(len(runs), device=device).repeat_interleave(
        counts, output_size=sum(tokens)
    )
    place = torch.arange(len(of_run), device=device) - (counts.cumsum(0) - counts)[of_run]
    return on_device(torch.tensor(runs), device)[of_run], place


def tokens_of_rows(chosen: Sequence[Positions], layer: int, device: torch.device) -> Tensor:
    """The positions that one layer sends of each row, int64 [B, K], filled up by the last one (of a
    row of none, by 0)."""
    of_rows = [each.runs(layer) or (range(1),) for each in chosen]
    every = [run for runs in of_rows for run in runs]
    starts, places = tokens_of_runs([(run.start,) for run in every], list(map(len, every)), device)
    counts = torch.tensor([sum(map(len, runs)) for runs in of_rows])
    ends = counts.cumsum(0)
    first, last = on_device(torch.stack([ends - counts, ends - 1]), device)[..., None]
    place = first + torch.arange(int(counts.max()), device=device)
    return (starts[:, 0] + places)[torch.minimum(place, last)]
