"""Several processes that train one fuser, each with its share of every batch's rows.

Their step is that of one process up to rounding: what a share adds to the loss weighs as many times
as it has answer tokens, and gradients are summed by torch's DistributedDataParallel, while those
that come later are still computed. torch's default process group joins them; who makes it, and how
all of them end, is the caller's.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from c2c.aligned_reading import rows_by_layout
from c2c.errors import C2CError
from c2c.training_readings import Batch


@dataclass(frozen=True)
class Share:
    """What one process reads of a batch, and how much of the batch that is; alone, all of it."""

    batch: Batch
    of_answers: Tensor | float = 1.0  # of the answers' tokens
    of_lent: Tensor | float = 1.0  # of the rows that get another's message in `guard_loss`
    of_processes: float = 1.0


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is. `lost` is set once another of them has ended: what has
    come from it since is nothing."""

    rank: int = 0
    count: int = 1
    lost: Event = field(default_factory=Event)

    def share(self, batch: Batch, kept: int, order: str) -> Share:
        """This process's rows of a batch; shares may differ by a row. A row is lent a message of
        its own share, so that other rows are than where one process has them all. `kept` and
        `order` are as `readings_of` has them.

        Raises C2CError where a process would have none.
        """
        if self.count == 1:
            return Share(batch)
        rows = len(batch.prompt_ids)
        if rows < self.count:
            raise C2CError(
                f"a batch of {rows} cannot be shared by {self.count} processes: start fewer"
            )
        ends = [rows * place // self.count for place in range(self.count + 1)]
        parts = [_part(batch, slice(*ends[place : place + 2])) for place in range(self.count)]
        tokens = torch.stack([_answer_tokens(part) for part in parts])
        lent = torch.stack([_lent_rows(part, kept, order) for part in parts])
        return Share(
            parts[self.rank],
            tokens[self.rank] / tokens.sum(),
            lent[self.rank] / lent.sum().clamp(min=1),
            1 / self.count,
        )

    def joined(self, objective: nn.Module) -> nn.Module:
        """A module whose forward gives a share's loss, which from now on has the gradients of all;
        their weights become the first's."""
        if self.count == 1:
            return objective
        together = DistributedDataParallel(objective)
        # DDP lays gradients out anew once the first have come, and the sum of several is rounded by
        # where they stand. So the first ones are of nothing: a training that goes on from a
        # checkpoint rounds as the one that was ended would have done.
        for _ in range(2):
            nothing, _ = together(None)
            nothing.backward()
        together.zero_grad(set_to_none=True)
        return together

    def apart(self, objective: nn.Module, is_last: bool) -> AbstractContextManager[None]:
        """In the block, gradients stay this process's own, but for the last batch of a step."""
        if self.count == 1 or is_last:
            return nullcontext()
        assert isinstance(objective, DistributedDataParallel)
        return objective.no_sync()

    def sums(self, numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of each number the sum over all processes."""
        if self.count == 1:
            return dict(numbers)
        values = torch.stack([number.float() for number in numbers.values()])
        distributed.all_reduce(values)
        return dict(zip(numbers, values, strict=True))

    def require_all(self) -> None:
        """C2CError once another process has ended."""
        if self.lost.is_set():
            raise C2CError("another process of this training has ended")


ALONE = Processes()


def of_nothing(module: nn.Module) -> Tensor:
    """0, with a gradient of 0 for every parameter: DDP waits for each of them."""
    return 0 * torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def _part(batch: Batch, rows: slice) -> Batch:
    prompt_mask, answer_mask, messages = (
        None if part is None else part[rows]
        for part in (batch.prompt_mask, batch.answer_mask, batch.message_ids)
    )
    own = batch.prompt_ids[rows], batch.answer_ids[rows]
    texts = batch.message_tokens[rows], batch.aligned[rows]
    return Batch(*own, prompt_mask, answer_mask, messages, *texts)


def _answer_tokens(batch: Batch) -> Tensor:
    if batch.answer_mask is None:
        return torch.tensor(batch.answer_ids.numel())
    return batch.answer_mask.sum()


def _lent_rows(batch: Batch, kept: int, order: str) -> Tensor:
    """How many rows there are whose prompt is as long as another's, or of its layout."""
    if batch.aligned:
        together = map(len, rows_by_layout(batch, kept, order).values())
        return torch.tensor(sum(rows for rows in together if rows > 1))
    if batch.prompt_mask is None:
        rows = len(batch.prompt_ids)
        return torch.tensor(rows if rows > 1 else 0)
    lengths = batch.prompt_mask.sum(1)
    return ((lengths[:, None] == lengths).sum(1) > 1).sum()
