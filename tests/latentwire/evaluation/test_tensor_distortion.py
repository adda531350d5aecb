"""What tensors lose."""

from collections.abc import Callable

from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.tensor_distortion import distortions
from latentwire.tasks.question import Question


def test_more_bits_lose_less_in_every_tensor(
    pair: LoadedPair, questions: Callable[..., list[Question]]
) -> None:
    lost = distortions(pair, questions([12, 30]))
    keys, values = pair.endpoint.key_layers, pair.endpoint.value_layers
    sites = {("key", layer) for layer in keys} | {("value", layer) for layer in values}
    assert all({*of_sites} == sites for of_sites in lost.values())
    for site in sites:
        assert 0 < lost[8][site] < lost[4][site] < lost[3][site] < lost[2][site]
