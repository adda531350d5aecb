"""`oracle_delta`: the tokens whose values the message changes most, as the codec leaves it.

`delta_proj_vnorm_topk` of the published selection study (see `c2c.oracle_selection`). There what
was merged had the scales of the whole section; here the chosen tokens are a packet with their own.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Delta:
    after_codec = True
    help = "most changed values"

    def score(self, merged: "Tensor", own: "Tensor") -> "Tensor":
        return merged - own


ORACLE = Delta()
