"""M9: what would it buy to know the receiver's cache? Oracles beside a sender's choices.

An oracle chooses tokens by what they do to the receiver's own, which no sender knows: its curve is
a bound, not a method. At equal numbers of tokens, and so at equal bytes but for which they are.
"""

from typing import TYPE_CHECKING

from latentwire.milestones import m3
from latentwire.milestones.m3 import conditions
from latentwire.parameters import KEEP_RATIOS, ORDER, with_defaults

if TYPE_CHECKING:  # it takes seconds to import: a help text must not
    from latentwire.session.session import Session

_OTHER_DEFAULTS = {
    KEEP_RATIOS.name: "1.0,0.5,0.25,0.1",
    ORDER.name: "vnorm_by_layer,snapkv_by_layer,oracle_proj_vnorm,oracle_delta",
}
PARAMETERS = with_defaults(m3.PARAMETERS, _OTHER_DEFAULTS)


def run_on(session: "Session") -> None:
    """The milestone on a session that is open already."""
    from latentwire.milestones.foreseeing import compare_with_oracles

    compare_with_oracles(session, conditions(session.values))
