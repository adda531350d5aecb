"""`snapkv`: what the sharer's last tokens attend to.

SnapKV (arXiv:2404.14469): the mean attention of an observation window to each token, averaged over
5 neighbours, so that what belongs together goes together; the window goes too. There each head
keeps tokens of its own, here heads are averaged, for a packet carries whole tokens. Where little
may go, the window is at most half of it: with all of it in, this would be `back`.
"""

from typing import TYPE_CHECKING

from latentwire.channel.selectors.ranked import ByScore

if TYPE_CHECKING:
    from torch import Tensor

    from c2c.cache import KVCache

NEIGHBOURS = 5  # as kvpress has it


class SnapKV(ByScore):
    needs_queries = True
    scored = "what the last attend to"

    def scores(self, cache: "KVCache", tokens: "Tensor") -> "Tensor":
        from torch.nn import functional as F

        from latentwire.channel.selectors.attention import attended

        seen = attended(cache, tokens)
        return F.avg_pool1d(seen, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)

    def always(self, tokens: int, count: int) -> range:
        from latentwire.channel.selectors.attention import WINDOW

        return range(tokens - min(WINDOW, count // 2), tokens)


SELECTOR = SnapKV()
