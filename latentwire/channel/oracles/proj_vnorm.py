"""`oracle_proj_vnorm`: the tokens whose values are largest once they are merged.

`proj_vnorm_topk` of the published selection study (see `c2c.oracle_selection`), which chose in each
of the receiver's layers; here a sharer layer's tokens are chosen, for these are what is sent.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class ProjectedNorm:
    after_codec = False
    help = "largest merged values"

    def score(self, merged: "Tensor", own: "Tensor") -> "Tensor":
        return merged


ORACLE = ProjectedNorm()
