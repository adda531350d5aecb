"""M8: which tokens? Every selector, at equal numbers of tokens, in 8 and 4 bits.

A selector is what a sender can compute. The whole cache, of which nothing is chosen, is M2's. What
a pair cannot have is left out: where the message is inserted, tokens that differ by layer.
"""

from typing import TYPE_CHECKING

from latentwire.channel.selectors.registry import SELECTORS
from latentwire.errors import LatentWireError
from latentwire.milestones import m3
from latentwire.milestones.m3 import conditions
from latentwire.parameters import KEEP_RATIOS, KV_BITS, ORDER, with_defaults
from latentwire.spec.condition import Condition

if TYPE_CHECKING:  # it takes seconds to import: a help text must not
    from latentwire.session.session import Session

_OTHER_DEFAULTS = {
    KV_BITS.name: "8,4",
    KEEP_RATIOS.name: "1.0,0.5,0.25,0.1",
    ORDER.name: ",".join(SELECTORS),
}
PARAMETERS = with_defaults(m3.PARAMETERS, _OTHER_DEFAULTS)


def run_on(session: "Session") -> None:
    """The milestone on a session that is open already."""
    from latentwire.session.grid import run_grid

    run_grid(session, "m8", possible(session))


def possible(session: "Session") -> list[Condition]:
    """The conditions that the pair can have. LatentWireError where it can have none of the
    orders."""
    from latentwire.session.grid import refused_orders

    wanted = conditions(session.values)
    refused = refused_orders(session, wanted)
    kept = [each for each in wanted if each.channel and each.channel.order not in refused]
    if refused:
        said = f"{', '.join(refused)}: {next(iter(refused.values()))}"
        if not kept:
            raise LatentWireError(f"order={said}")
        print(f"m8: left out: {said}")
    return kept
