"""`vnorm`: the tokens whose values are largest: L2 over channels, mean over heads.

By layer it is `vnorm_topk` of the published selection study, whose vectors `c2c.oracle_selection`
passes; there it kept round(T * p) tokens, here it is as many as the budget says.
"""

from typing import TYPE_CHECKING

from latentwire.channel.selectors.ranked import ByScore

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache


class ValueNorm(ByScore):
    scored = "largest values"

    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        from latentwire.channel.selectors.scores import norms

        return norms(cache.values)


SELECTOR = ValueNorm()
