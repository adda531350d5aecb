"""Steps that are taken one by one, on a GPU beside other work."""

import pytest
import torch

from c2c.steps import SideStream, Steps, finished

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def counting(done: list[int], steps: int) -> Steps[str]:
    for step in range(steps):
        done.append(step)
        yield
    return "all"


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_something_else_is_done_between_steps(steps: int) -> None:
    done: list[int] = []
    between: list[int] = []
    assert finished(counting(done, steps), lambda: between.append(len(done))) == "all"
    assert done == [*range(steps)] and between == [*range(1, steps + 1)]


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 9])
def test_what_is_left_is_done_when_the_result_is_asked_for(taken: int) -> None:
    done: list[int] = []
    side = SideStream(counting(done, 3), DEVICE)
    for _ in range(taken):
        side.step()
    assert len(done) == min(taken, 3)
    assert side.result() == side.result() == "all" and done == [0, 1, 2]
    side.joined()


def test_a_step_sees_what_was_asked_before_and_is_seen_afterwards() -> None:
    """Whatever else the device does at that time."""
    size = 4096 if DEVICE.type == "cuda" else 64
    busy = torch.ones(size, size, device=DEVICE)
    state = (busy @ busy)[0].clone()  # ready only after a long product

    def steps() -> Steps[None]:
        for _ in range(3):
            state.add_(1)
            yield

    side = SideStream(steps(), DEVICE)
    side.step()
    busy @ busy
    side.result()
    side.joined()
    assert torch.equal(state, torch.full_like(state, size + 3))


def test_a_step_that_fails_says_so() -> None:
    def failing() -> Steps[None]:
        yield
        raise RuntimeError("out of paper")

    side = SideStream(failing(), DEVICE)
    side.step()
    with pytest.raises(RuntimeError, match="out of paper"):
        side.result()
