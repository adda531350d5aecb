"""The next batch is read by a thread while gradients are computed, and nothing else changes."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from toy_training import SETTINGS, same, toy_batch, toy_parts

from c2c import reading_ahead, training
from c2c.cache import KVCache
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.quantize import round_trip
from c2c.reading_ahead import ReadAhead
from c2c.sections import Runs
from c2c.training import train_fuser
from c2c.training_loss import Through
from c2c.training_readings import Batch

CPU = torch.device("cpu")


@pytest.fixture(params=[False, True], ids=["in turn", "ahead"])
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a thread reads, as on a GPU."""
    monkeypatch.setattr(reading_ahead, "is_worth_it", lambda device: request.param)
    return bool(request.param)


@pytest.fixture(scope="module")
def undisturbed() -> Fuser:
    return train_fuser(*toy_parts(), toy_batch, SETTINGS)


def test_weights_are_the_same_to_the_bit_and_a_thread_has_read(
    ahead: bool, undisturbed: Fuser, tmp_path: Path
) -> None:
    """With dropout, the gates' noise, parts of prompts and two batches a step; and with an end."""
    readers: dict[int, threading.Thread] = {}

    def batch(number: int) -> Batch:
        assert number not in readers, "a batch is read twice"
        readers[number] = threading.current_thread()
        return toy_batch(number)

    assert same(train_fuser(*toy_parts(), batch, SETTINGS, tmp_path / "whole"), undisturbed)
    assert sorted(readers) == [*range(20)]
    main = threading.main_thread()
    assert [number for number, thread in readers.items() if thread is main] == (
        [0] if ahead else [*range(20)]
    )

    def ended(step: int, metrics: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fuser(*toy_parts(), toy_batch, SETTINGS, tmp_path / "ended", ended)
    readers.clear()
    assert same(train_fuser(*toy_parts(), batch, SETTINGS, tmp_path / "ended"), undisturbed)
    assert sorted(readers) == [*range(6, 20)]  # from the checkpoint of step 3


def test_messages_go_through_their_channel_ahead(ahead: bool) -> None:
    """Once a batch, for its own messages; those that the guard lends when it is their turn."""
    threads: list[bool] = []

    def channels(number: int) -> Through:
        def through(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
            threads.append(threading.current_thread() is threading.main_thread())
            return sent.map(lambda tensor: round_trip(tensor, 4))

        return through

    found = train_fuser(*toy_parts(), toy_batch, SETTINGS, channels=channels)
    assert threads.count(False) == (19 if ahead else 0) and len(threads) == 40
    with mock.patch.object(training, "_sent_already", lambda readings, through: through):
        assert same(train_fuser(*toy_parts(), toy_batch, SETTINGS, channels=channels), found)


def test_the_models_are_the_callers_between_steps(ahead: bool) -> None:
    """What is told of a step may use them, as validation does: no thread has them in hand, however
    long it takes."""
    receiver, sharer, fuser = toy_parts()
    inside, plain = threading.Event(), sharer.base_model.forward

    def forward(*args: Any, **options: Any) -> Any:
        inside.set()
        if ahead:
            time.sleep(0.1)
        try:
            return plain(*args, **options)
        finally:
            inside.clear()

    sharer.base_model.forward = forward
    seen = []
    train_fuser(
        receiver, sharer, fuser, toy_batch, replace(SETTINGS, steps=4),
        on_step=lambda *_: seen.append(inside.is_set()),
    )  # fmt: skip
    assert seen == [False] * 4


def test_an_error_comes_at_the_step_whose_batch_has_it(ahead: bool) -> None:
    def batch(number: int) -> Batch:
        if number == 7:
            raise C2CError("batch 7 is not to be had")
        return toy_batch(number)

    steps: list[int] = []
    with pytest.raises(C2CError, match="batch 7"):
        train_fuser(*toy_parts(), batch, SETTINGS, on_step=lambda step, _: steps.append(step))
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_runs_out_ahead_is_asked_for_again(
    ahead: bool, times: int, undisturbed: Fuser
) -> None:
    """While gradients are computed there is less of it. The second time the training ends."""
    receiver, sharer, fuser = toy_parts()
    plain, calls = sharer.base_model.forward, 0

    def forward(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if 5 <= calls < 5 + times:
            raise torch.OutOfMemoryError("no room")
        return plain(*args, **options)

    sharer.base_model.forward = forward
    if times > 1:
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            train_fuser(receiver, sharer, fuser, toy_batch, SETTINGS)
    else:
        assert same(train_fuser(receiver, sharer, fuser, toy_batch, SETTINGS), undisturbed)


def test_items_come_in_their_order_and_end(ahead: bool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)

    with ReadAhead(numbers(), CPU) as items:
        found = []
        for _ in range(3):
            found.append(items.get())
            items.start()
        with pytest.raises(StopIteration):
            items.get()
    assert found == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_are_the_same_to_the_bit_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(number: int) -> Batch:
        made = toy_batch(number)
        return Batch(made.prompt_ids.cuda(), made.answer_ids.cuda())

    found = []
    for thread in (False, True):
        monkeypatch.setattr(reading_ahead, "is_worth_it", lambda device, thread=thread: thread)
        parts = [part.cuda() for part in toy_parts()]
        found.append(train_fuser(*parts, batch, replace(SETTINGS, steps=30)))
    assert same(*found)
