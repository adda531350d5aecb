"""Greedy decoding of many rows at once, each at a position of its own.

What `receiver.greedy` does for rows of one length, without stopping for the slowest: rows that
have ended are carried until at most half of those present go on, then the rest move together.
"""

import logging
from collections.abc import Callable, Collection, Hashable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import geometry
from c2c.cuda_graphs import StepGraphs
from c2c.decode_step import supported
from c2c.on_device import on_device, on_host
from c2c.pieces import LEAST_BLOCK, rounded
from c2c.slot_cache import new_slots, next_logits
from c2c.steps import Steps

# Without a kernel, attention sees the slots up to the longest row, rounded up to so many. On a GPU
# every such count has CUDA graphs of its own, and recording one costs as much as seeing some more
# slots often. The kernel sees a row's own.
BLOCK = {"cuda": 64}
# Likewise rows: they are rounded up to half of the power of two below, and to so many. The rows
# that this adds hold nothing, and a step of fewer takes as long.
FEWEST_ROWS = {"cuda": 128}

log = logging.getLogger("c2c")

Places = npt.NDArray[np.int64]  # of rows
Ended = npt.NDArray[np.bool_]  # by row


class Decoder:
    """A model with slots for `rows` texts of up to `slots` tokens, used batch after batch. `divide`
    has the same memory hold more texts that are shorter, up to `most_rows`.

    Slots, tokens and positions stay where they are in memory, so that a decoding step captured as
    a CUDA graph can be run again for the next batch. `use_graphs` has an effect on CUDA only; of
    what runs at the same time (`SideStream`), recorded steps of the decoder that comes `first` do
    not wait for others.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: int,
        slots: int,
        use_graphs: bool,
        most_rows: int = 0,
        first: bool = False,
    ) -> None:
        self.model, self.device = model, model.device
        self.block = BLOCK.get(self.device.type, LEAST_BLOCK)
        self.fewest = FEWEST_ROWS.get(self.device.type, 1)
        self.all_slots = rows * rounded(slots)
        self._memory = new_slots(
            geometry(model.config), rows, rounded(slots), model.dtype, self.device
        )
        heads = model.config.get_text_config().num_attention_heads
        self._by_kernel = supported(self._memory, heads)
        most_rows = max(rows, most_rows)
        self.tokens = torch.zeros(most_rows, dtype=torch.long, device=self.device)
        self.positions = torch.zeros(most_rows, dtype=torch.long, device=self.device)
        self.shifts = torch.zeros(most_rows, dtype=torch.long, device=self.device)
        self._hidden = torch.zeros(self.all_slots, dtype=torch.bool, device=self.device)
        self._hides = False  # whether any slot is hidden
        self.rows = torch.arange(most_rows, device=self.device)  # which row stands in each place
        self._row_slots = torch.zeros(1, dtype=torch.long, device=self.device)
        self.divide(slots)
        self._graphs = (
            StepGraphs(self.device, first) if use_graphs and self.device.type == "cuda" else None
        )
        self._logits: Tensor | None = None  # where recorded steps put theirs
        self._tried: set[Hashable] = set()  # shapes that failed to be captured once

    def holds(self, rows: int, slots: int) -> bool:
        """Whether a batch of that size fits in."""
        return rows <= len(self.tokens) and rows * rounded(slots) <= self.all_slots

    def divide(self, slots: int) -> None:
        """Have each row so many slots, and as many rows as there is memory for; what the slots held
        is lost."""
        slots = rounded(slots)
        rows = min(len(self.tokens), self.all_slots // slots)

        def divided(memory: Tensor) -> Tensor:
            _, heads, _, width = memory.shape
            return memory.view(-1, width)[: rows * heads * slots].view(rows, heads, slots, width)

        self.slots = self._memory.map(divided)
        self.hidden = self._hidden[: rows * slots].view(rows, slots)
        self._row_slots.fill_(slots)

    @torch.inference_mode()
    def greedy(
        self,
        last_tokens: Tensor,
        positions: Sequence[int],
        max_new_tokens: int,
        stop_ids: Collection[int] = (),
        forced_lengths: Sequence[int] | None = None,
        on_first_logits: Callable[[Tensor], None] = lambda logits: None,
        shifts: Sequence[int] = (),
        hidden: Tensor | None = None,
    ) -> Steps[list[list[int]]]:
        """New token ids of each row, without the stop token that ended it, one token of all a step:
        something else can be done while the device has that to do (`c2c.steps`).

        Row r's slots hold the `positions[r]` tokens before its prompt's last one, which is
        last_tokens[r] (int64 [R]). `on_first_logits` is shown the logits [R, vocabulary] after it.
        `forced_lengths` says, for timings, after how many tokens each row ends, whatever they are.
        Tokens of row r stand shifts[r] positions later than its slots say; `hidden` (bool [R, S])
        are slots that no token sees, a prompt's last one may be among them.
        The slots are used up. Inside `slot_attention` only.
        """
        count = len(positions)
        stops, limits = self._numbers(sorted(stop_ids)), None
        if forced_lengths is not None:
            limits = self._numbers(forced_lengths)
        answers = torch.full((count, max_new_tokens), -1, device=self.device)
        self._begin(last_tokens, positions, shifts, hidden)
        ended = torch.zeros(count, dtype=torch.bool, device=self.device)
        reach = np.array(positions)  # of the row in each place, 0 once it has ended
        known = _Flags(self.device)
        for step in range(max_new_tokens):
            used = min(rounded(int(reach.max()) + step + 1, self.block), self.slots.tokens)
            present = len(reach)
            rows, places = self.rows[:present], self.positions[:present]
            logits = self._step(self._padded(present), used)[:present]
            if step == 0:
                on_first_logits(logits)
            tokens = logits.argmax(-1)
            ended |= torch.isin(tokens, stops) if limits is None else limits[rows] <= step
            answers[rows, step] = torch.where(ended, -1, tokens)
            self.tokens[:present] = tokens
            # Attention reads a row up to its position: nothing of one that has ended.
            places.copy_((places + 1).masked_fill_(ended, 0))
            yield
            flags = known.after(ended)
            if flags is None:
                continue
            if flags.all():
                break
            reach[flags] = 0
            target = max(present - int(flags.sum()), min(self.fewest, present))
            if target <= present // 2:
                sources, holes = _moves(flags, target)
                self._move(sources, holes, used, ended)
                self.positions[target:] = 0
                reach[holes] = reach[sources]
                ended, reach = ended[:target], reach[:target]
                known.forget()
        return _written(answers)

    def _begin(
        self,
        last_tokens: Tensor,
        positions: Sequence[int],
        shifts: Sequence[int],
        hidden: Tensor | None,
    ) -> None:
        """Put the first tokens where a step reads them; arguments as for `greedy`."""
        count = len(positions)
        self.tokens[:count] = last_tokens
        self.positions[:count] = self._numbers(positions)
        self.positions[count:] = 0
        self.shifts.zero_()
        self.shifts[: len(shifts)] = self._numbers(shifts)
        torch.arange(len(self.rows), out=self.rows)
        self._hides = hidden is not None
        if hidden is not None:
            self.hidden.zero_()
            self.hidden[: len(hidden), : hidden.shape[1]] = hidden

    def _numbers(self, numbers: Sequence[int] | Places) -> Tensor:
        return on_device(torch.as_tensor(numbers, dtype=torch.long), self.device)

    @property
    def _uses_kernel(self) -> bool:
        """Whether attention is by the kernel, which sees all slots up to a row's own."""
        return self._by_kernel and not self._hides

    def _step(self, rows: int, used: int) -> Tensor:
        """Logits [rows, vocabulary] after the present tokens, with so many slots in use; valid
        until the next step."""

        def step() -> Tensor:
            now = self.model, self.tokens[:rows], self.positions[:rows]
            shifts = self.shifts[:rows]
            if self._uses_kernel:
                there = self.rows[:rows], shifts, None, self._row_slots
                return next_logits(*now, self.slots, 0, *there)
            hidden = self.hidden[:rows] if self._hides else None
            return next_logits(*now, self.slots.rows(0, rows), used, None, shifts, hidden)

        slots = (0, 0) if self._uses_kernel else (used, self.slots.tokens)
        shape = rows, *slots, self._hides
        if self._graphs is None or self._logits is None:
            # The first step of all is run as it is: it sets up what libraries need.
            logits = step()
            if self._graphs is not None:
                self._logits = logits.new_empty(len(self.tokens), logits.shape[-1])
            return logits
        try:
            return self._graphs.run(shape, step, self._logits[:rows])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Something of this shape may have had to be set up, which cannot be recorded.
            if shape in self._tried:
                log.warning("decoding goes on without CUDA graphs: %s", str(error).splitlines()[0])
                self._graphs = None
            self._tried.add(shape)
            torch.cuda.empty_cache()  # memory cannot be given back while a step is recorded
            return step()

    def _padded(self, rows: int) -> int:
        """As many rows or some more, so that few counts of them occur; on a GPU."""
        if self.device.type != "cuda":
            return rows
        step = max(self.fewest, 1 << max(0, (rows - 1).bit_length() - 2))
        return min(rounded(rows, step), len(self.slots.keys[0]))

    def _move(self, sources: Places, holes: Places, used: int, ended: Tensor) -> None:
        """Put the rows at `sources` where those at `holes` were. The kernel finds a row's slots
        wherever they are; without it they move too."""
        source, hole = self._numbers(sources), self._numbers(holes)
        if not self._uses_kernel:
            for tensor in (*self.slots.keys, *self.slots.values):
                seen = tensor[:, :, :used]
                seen[hole] = seen[source]
        for state in (self.tokens, self.positions, self.shifts, self.hidden, ended):
            state[hole] = state[source]
        # Exchanged, so that no two places have the same row's slots.
        self.rows[torch.cat([hole, source])] = self.rows[torch.cat([source, hole])]


def _written(answers: Tensor) -> list[list[int]]:
    """The ids of each row [R, T] that come before its first -1."""
    written = answers >= 0
    every, ends = answers[written].tolist(), written.sum(1).cumsum(0).tolist()
    return [every[start:end] for start, end in pairwise([0, *ends])]


def _moves(ended: Ended, target: int) -> tuple[Places, Places]:
    """Which rows behind `target` go where before it: those that go on, to where one ended."""
    sources = target + np.flatnonzero(~ended[target:])
    return sources, np.flatnonzero(ended[:target])[: len(sources)]


class _Flags:
    """Which rows have ended, as the host knows it.

    On a GPU the host learns it one step late, without the GPU ever waiting for the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._late = device.type == "cuda"
        self._pending: Callable[[], Tensor] | None = None

    def after(self, ended: Tensor) -> Ended | None:
        """The flags after this step (CPU, MPS) or the one before; None when nothing is known."""
        if not self._late:
            return ended.numpy(force=True)
        before, self._pending = self._pending, on_host(ended)
        return None if before is None else before().numpy()

    def forget(self) -> None:
        """Drop what is on its way: it speaks of rows that have moved."""
        self._pending = None
