"""Conversations as a training reads them: in tokens, and in batches that each hold one length."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2c.chat import chat_token_ids, end_of_turn
from c2c.errors import C2CError
from c2c.on_device import on_device
from c2c.paired_prompts import PairedPrompts
from c2c.training_readings import Batch

SAME_LENGTH = 16  # tokens by which messages of a batch may differ as well as not


class TokenBatches:
    """Batches of prompts and answers in token ids, each answer with its stop token.

    A batch's prompts are of one length, for each length is read by itself; only those of lengths
    that fewer than `batch_size` prompts have share batches, sorted by length. What an epoch leaves
    over of a length opens the next one's batches, so that each conversation comes equally often.
    Rows and batches are shuffled anew each epoch, by the seed alone.

    `messages` are what the sharer reads of each pair, where that is another text. Those of a batch
    are of about one length. Where the two are prompts in tokens of their own, `aligned` has them.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        pad: int,
        batch_size: int,
        seed: int = 42,
        device: str = "cpu",
        messages: Sequence[Sequence[int]] = (),
        aligned: Sequence[PairedPrompts] = (),
    ) -> None:
        self.pairs, self.pad, self.messages, self.aligned = pairs, pad, messages, aligned
        self.batch_size, self.seed, self.device = batch_size, seed, device
        by_length: dict[int, list[int]] = {}
        for row, (prompt, _) in enumerate(pairs):
            by_length.setdefault(len(prompt), []).append(row)
        of_length = [by_length[length] for length in sorted(by_length)]
        rare = [row for rows in of_length if len(rows) < batch_size for row in rows]
        common = [rows for rows in of_length if len(rows) >= batch_size]
        self._groups = [*common, rare] if rare else common
        self._epoch: tuple[int, list[list[int]]] | None = None  # the last one, and its batches

    def __call__(self, number: int) -> Batch:
        rows = self.rows(number)
        prompts, prompt_mask = self._pad([self.pairs[row][0] for row in rows], left=True)
        answers, answer_mask = self._pad([self.pairs[row][1] for row in rows], left=False)
        batch = Batch(prompts, answers, prompt_mask, answer_mask)
        if not self.messages:
            return batch
        texts = [self.messages[row] for row in rows]
        # With a token that the sharer has, for it is the one who reads.
        ids, _ = self._pad(texts, left=False, pad=texts[0][0])
        aligned = [self.aligned[row] for row in rows] if self.aligned else ()
        counts = list(map(len, texts))
        return replace(batch, message_ids=ids, message_tokens=counts, aligned=aligned)

    def tokens(self, number: int) -> int:
        """How many tokens a batch has, pads not counted."""
        rows = self.rows(number)
        messages = sum(len(self.messages[row]) for row in rows) if self.messages else 0
        return messages + sum(len(part) for row in rows for part in self.pairs[row])

    def rows(self, number: int) -> list[int]:
        """Which of the pairs are in a batch."""
        epoch = number * self.batch_size // len(self.pairs)
        while self._batches_before(epoch + 1) <= number:
            epoch += 1
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._batches_of(epoch)
        return self._epoch[1][number - self._batches_before(epoch)]

    def _batches_before(self, epoch: int) -> int:
        return sum(epoch * len(group) // self.batch_size for group in self._groups)

    def _batches_of(self, epoch: int) -> list[list[int]]:
        """The batches that become full in an epoch."""
        size, batches = self.batch_size, []
        for group in self._groups:
            first, stop = (e * len(group) // size * size for e in (epoch, epoch + 1))
            since = first // len(group)  # the epoch in which the first of them begins
            orders = [self._order(group, e) for e in range(since, epoch + 1)]
            stream = [row for order in orders for row in order]
            places = range(first - since * len(group), stop - since * len(group), size)
            batches += [stream[place : place + size] for place in places]
        random.Random(f"{self.seed}:{epoch}").shuffle(batches)
        return batches

    def _order(self, group: list[int], epoch: int) -> list[int]:
        """A group's rows, shuffled and then sorted by length: up in one epoch, down in the next, so
        that those of a batch over the end of an epoch are alike too."""
        rows = list(group)
        random.Random(f"{self.seed}:{epoch}:{len(self.pairs[group[0]][0])}").shuffle(rows)
        rows.sort(key=self._length, reverse=bool(epoch % 2))
        return rows

    def _length(self, row: int) -> tuple[int, int]:
        """By which a group is sorted; messages coarsely, so that batches are others each epoch."""
        message = len(self.messages[row]) // SAME_LENGTH if self.messages else 0
        return len(self.pairs[row][0]), message

    def _pad(
        self, rows: Sequence[Sequence[int]], left: bool, pad: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Rows as one tensor on the device, and its mask, which stays on the host; where no pad is
        needed, none."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad if pad is None else pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place] = torch.tensor(row)
            mask[index, place] = 1
        padded = any(len(row) < width for row in rows)
        return on_device(ids, self.device), mask if padded else None


def end_and_pad(tokenizer: Any) -> tuple[int, int]:
    """The token that ends an answer, and the one that batches are filled up with."""
    end = end_of_turn(tokenizer)
    if end is None:
        end = tokenizer.eos_token_id
    if end is None:
        raise C2CError("the tokenizer has no token that ends a turn, and no eos_token")
    pad = tokenizer.pad_token_id
    return end, pad if pad is not None else end


def json_lines(path: Path) -> list[Any]:
    """A file's rows; C2CError, naming the line, for what is not JSON or cannot be read."""
    rows = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    rows.append(json.loads(line.decode()))
                except (ValueError, RecursionError) as error:
                    raise C2CError(f"{path}, line {number}: not JSON: {error}") from None
    except OSError as error:
        raise C2CError(f"{path} cannot be read: {error}") from None
    return rows


def chat_tokens(tokenizer: Any, end: int, row: Any, where: str) -> tuple[list[int], list[int]]:
    """Prompt and answer of a chat, the answer with its `end`; C2CError for a row that is none."""
    try:
        *before, last = row["messages"]
        for message in (*before, last):
            if not isinstance(message["role"], str) or not isinstance(message["content"], str):
                raise ValueError("role and content of a message must be text")
        if last["role"] != "assistant" or not before:
            raise ValueError("the last message must be the assistant's, after at least one other")
        prompt = chat_token_ids(tokenizer, before)
        answer = tokenizer.encode(last["content"], add_special_tokens=False)
    except (KeyError, TypeError, ValueError) as error:
        raise C2CError(f"{where}: not a conversation: {error}") from None
    if len(prompt) < 2:
        raise C2CError(f"{where}: the prompt has fewer than two tokens")
    return prompt, [*answer, end]
