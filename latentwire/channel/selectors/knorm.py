"""`knorm`: the tokens whose keys are *smallest*: L2 over channels, mean over heads.

Devoto et al. (arXiv:2406.11430) found that a small key goes with much attention; kvpress's
`KnormPress` scores by minus the norm too, head by head. The published selection study's
`knorm_topk` takes the largest, which is another rule and in `c2c.oracle_selection`.
"""

from typing import TYPE_CHECKING

from latentwire.channel.selectors.ranked import ByScore

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache


class KeyNorm(ByScore):
    scored = "smallest keys"

    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        from latentwire.channel.selectors.scores import norms

        return -norms(cache.keys)


SELECTOR = KeyNorm()
