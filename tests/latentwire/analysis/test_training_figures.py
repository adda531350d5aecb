"""The axes of a training's picture."""

from latentwire.analysis.training_figures import LEAST_PERCENT, draw_training

STEPS = [{"step": float(step), "loss": 2.0} for step in range(1, 5)]


def judged(share: float) -> list[dict[str, float]]:
    return [{"step": 4, "accuracy": share, "accuracy_deranged": 0.0}]


def test_axes_leave_room_and_have_whole_steps() -> None:
    for share, most in ((0.0, LEAST_PERCENT), (0.5, 54.0)):
        loss, accuracy = draw_training(STEPS, judged(share), "demo").axes
        assert loss.get_ylim() == (0, 2.16)
        assert accuracy.get_ylim() == (0, most)
        for axes in (loss, accuracy):
            assert all(tick == int(tick) for tick in axes.get_xticks())


def test_nothing_judged_and_no_loss_are_drawn_too() -> None:
    steps = [{"step": 1.0, "loss": 0.0}]
    loss, accuracy = draw_training(steps, [], "demo").axes
    assert loss.get_ylim() == (0, 1) and accuracy.get_ylim() == (0, LEAST_PERCENT)
