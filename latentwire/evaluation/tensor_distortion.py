"""What each tensor loses in so many bits: the norm of the error over the norm, mean over questions.

A schedule searched by it is only as good a guide as losses are to answers; see `answer_divergence`.
"""

from collections.abc import Sequence

import torch

from c2c.cache import tokens_at
from latentwire.channel.allocation import share_lost
from latentwire.channel.layout import Site, tensor_of
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.positions import Positions
from latentwire.channel.registry import INTEGER_BITS, codec
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.pipeline import read_as_sharer
from latentwire.evaluation.reading import sharers_text
from latentwire.evaluation.schedule_search import Costs
from latentwire.evaluation.unanswerable import readable
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question


@torch.inference_mode()
def distortions(pair: LoadedPair, questions: Sequence[Question]) -> Costs:
    """What every tensor that is read loses in each of INTEGER_BITS. LatentWireError where no
    question can be read."""
    found: dict[int, dict[Site, list[float]]] = {bits: {} for bits in INTEGER_BITS}
    for question in readable(pair, questions):
        text = sharers_text(pair.interface, question)
        cache = tokens_at(read_as_sharer(pair, text), [text.sent])
        header = pair.endpoint.header(Channel("bf16"), Positions.of(text.sent))
        if header is None:
            raise LatentWireError("the pair's interface reads no layer, so none needs bits")
        real = torch.ones(1, cache.tokens, dtype=torch.bool, device=cache.keys[0].device)
        for bits in INTEGER_BITS:
            tensors = codec(f"int{bits}")
            assert isinstance(tensors, PerTensor)
            arrived, _ = tensors.round_trip(cache, [header.layout])
            lost = [
                share_lost(tensor_of(cache, *site), tensor_of(arrived, *site), real)
                for site in header.layout.sites
            ]
            shares = torch.cat(lost).tolist()  # the one wait for the device
            for site, share in zip(header.layout.sites, shares, strict=True):
                found[bits].setdefault(site, []).append(share)
    return {
        bits: {site: sum(each) / len(each) for site, each in sites.items()}
        for bits, sites in found.items()
    }
