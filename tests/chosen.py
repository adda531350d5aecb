"""What `front` and `back` choose, without a cache."""

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.channel.selectors.selector import Budget
from latentwire.controls.registry import CONTROLS
from latentwire.spec.condition import Channel

# Controls that need no calibration of the pair.
PLAIN_CONTROLS = [name for name, control in CONTROLS.items() if not control.calibrated]


def positions_of(channel: Channel, prompt_tokens: int) -> Positions:
    """What goes of a prompt of that length."""
    selector, budget = SELECTORS[channel.order], Budget(channel.keep_ratio)
    nothing: object = None
    return selector.select(nothing, range(prompt_tokens), budget)  # type: ignore[arg-type]
