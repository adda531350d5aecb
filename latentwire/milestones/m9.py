"""M9: what would it buy to know the receiver's cache? Oracles beside a sender's choices.

An oracle chooses tokens by what they do to the receiver's own, which no sender knows: its curve is
a bound, not a method. At equal numbers of tokens, and so at equal bytes but for which they are.
"""

from latentwire.milestones import m3
from latentwire.parameters import KEEP_RATIOS, ORDER, with_defaults

_OTHER_DEFAULTS = {
    KEEP_RATIOS.name: "1.0,0.5,0.25,0.1",
    ORDER.name: "vnorm_by_layer,snapkv_by_layer,oracle_proj_vnorm,oracle_delta",
}
WORK = "foreseeing"  # the module that does it
PARAMETERS = with_defaults(m3.PARAMETERS, _OTHER_DEFAULTS)
conditions = m3.conditions
