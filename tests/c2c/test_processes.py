"""Several processes make the step of one, and go on from a checkpoint as if nothing had been."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from toy_training import SETTINGS, mixed_batch, same, toy_batch, toy_parts

from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.processes import ALONE, Processes
from c2c.training import TrainingSettings, train_fuser
from c2c.training_readings import Batch

# Gates are half open whatever their noise, and nothing is dropped.
CALM = replace(SETTINGS, initial_temperature=1e9, final_temperature=1e9, steps=4, accumulation=2)


def rows_of_several_lengths(number: int) -> Batch:
    """Shares of two processes differ in rows, in lengths and in the answers' tokens."""
    return mixed_batch((12, 3, 7, 3 + number % 3, 9), pad=7)[0]


def the_same_twice(number: int) -> Batch:
    """Rows 0 to 3 again as rows 4 to 7: either half lends its rows what the whole batch would."""
    batch = toy_batch(number)
    return Batch(batch.prompt_ids[:4].repeat(2, 1), batch.answer_ids[:4].repeat(2, 1))


def train(
    folder: Path,
    batches: Callable[[int], Batch],
    settings: TrainingSettings,
    processes: Processes = ALONE,
    dropout: float = 0.0,
    delay_s: float = 0.0,
) -> Fuser:
    receiver, sharer, fuser = toy_parts(dropout)

    def tell(step: int, metrics: Mapping[str, float]) -> None:
        with (folder / f"told_{processes.rank}").open("a") as file:
            file.write(f"{step} {metrics['loss']} {metrics.get('guard', 0)}\n")
        time.sleep(delay_s)

    return train_fuser(
        receiver, sharer, fuser, batches, settings, folder / "kept", tell, processes=processes
    )


def start(
    folder: Path,
    count: int,
    batches: Callable[[int], Batch],
    settings: TrainingSettings,
    dropout: float = 0.0,
    delay_s: float = 0.0,
) -> list[BaseProcess]:
    """Processes that train together, forked since they would take seconds to import the same."""
    folder.mkdir(exist_ok=True)
    meeting = folder / f"meeting_{time.monotonic_ns()}"

    def one(rank: int) -> None:
        store = distributed.FileStore(str(meeting), count)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)
        fuser = train(folder, batches, settings, Processes(rank, count), dropout, delay_s)
        torch.save(fuser.state_dict(), folder / f"weights_{rank}")
        distributed.destroy_process_group()

    started = [get_context("fork").Process(target=one, args=(rank,)) for rank in range(count)]
    for process in started:
        process.start()
    return started


def together(folder: Path, count: int, *asked: Any) -> Fuser:
    """What they have trained, which must be the same in each."""
    for process in (started := start(folder, count, *asked)):
        process.join()
    assert [process.exitcode for process in started] == [0] * count
    found = []
    for rank in range(count):
        *_, fuser = toy_parts()
        fuser.load_state_dict(torch.load(folder / f"weights_{rank}"))
        found.append(fuser)
    assert all(same(fuser, found[0]) for fuser in found)
    return found[0]


def told(folder: Path, rank: int) -> torch.Tensor:
    lines = (folder / f"told_{rank}").read_text().splitlines()
    return torch.tensor([[float(part) for part in line.split()] for line in lines])


@pytest.mark.parametrize(
    ("batches", "guard_weight"),
    [(rows_of_several_lengths, 0.0), (the_same_twice, 0.5)],
    ids=["uneven shares", "guard"],
)
def test_two_processes_make_the_step_of_one(
    tmp_path: Path, batches: Callable[[int], Batch], guard_weight: float
) -> None:
    settings = replace(CALM, guard_weight=guard_weight)
    (tmp_path / "one").mkdir()
    one = train(tmp_path / "one", batches, settings)
    two = together(tmp_path / "two", 2, batches, settings)
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], weight, rtol=1e-4, atol=1e-4, msg=name)
    for rank in range(2):
        torch.testing.assert_close(told(tmp_path / "two", rank), told(tmp_path / "one", 0))


def test_processes_that_are_killed_go_on_to_the_same_weights(tmp_path: Path) -> None:
    """Three: the sum of two numbers is rounded alike however it comes about."""
    undisturbed = together(tmp_path / "whole", 3, toy_batch, SETTINGS, 0.1)
    folder = tmp_path / "killed"
    started = start(folder, 3, toy_batch, SETTINGS, 0.1, 0.05)
    while not (folder / "kept" / "step_00000006").exists():
        time.sleep(0.01)
    for process in started:
        process.kill()
    for process in started:
        process.join()
    assert all(process.exitcode for process in started)  # killed, or by the loss of one that was
    assert not (folder / "kept" / "step_00000010").exists()
    resumed = together(folder, 3, toy_batch, SETTINGS, 0.1)
    assert told(folder, 0)[:, 0].tolist().count(1) == 1  # it was not begun anew
    assert same(resumed, undisturbed)


def test_a_batch_of_fewer_rows_than_processes_is_refused() -> None:
    with pytest.raises(C2CError, match="a batch of 8 cannot be shared by 9 processes"):
        Processes(0, 9).share(toy_batch(0), 5, "front")
