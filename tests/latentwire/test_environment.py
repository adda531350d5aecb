"""How many threads torch gets follows from the pair, unless the user says it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import write_pair

from latentwire.environment import SMALL_BYTES, fit_threads
from latentwire.pairs.load import load_pair
from latentwire.session.pair_in_use import PairInUse


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("size", "device", "threads"),
    [(SMALL_BYTES - 1, "cpu", 1), (SMALL_BYTES, "cpu", 3), (1, "cuda", 3), (1, "mps", 3)],
)
def test_small_models_are_computed_on_one_thread(size: int, device: str, threads: int) -> None:
    fit_threads(size, device)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("three_threads")
def test_what_the_user_set_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    fit_threads(1, "cpu")
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_pair_of_tiny_models_is_such(tmp_path: Path) -> None:
    pair = load_pair(str(write_pair(tmp_path)))
    PairInUse(pair, "cpu", "float32", may_download=False).fit_threads()
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("three_threads")
def test_what_is_not_here_yet_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    pair = load_pair("qwen3_0.6b+qwen2.5_0.5b")
    PairInUse(pair, "cpu", "float32", may_download=True).fit_threads()
    assert torch.get_num_threads() == 3
