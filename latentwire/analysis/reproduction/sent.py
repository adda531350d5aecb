"""Was what a condition is named by really sent? Packets tell it where answers cannot: those of the
whole cache in 16, 8 and 4 bits are alike."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from latentwire.analysis.letter_distribution import ratio
from latentwire.analysis.reproduction.published_accuracies import KV_BITS, PublishedAccuracy
from latentwire.evaluation.record import Record

# Scales and headers come on top of a codec's bits; the next codec has twice as many.
_MOST_OVER = 1.25
_NEAR = 0.05  # of a share of tokens, which is rounded question by question


class Sent(NamedTuple):
    """What packets hold; NaN where records do not say it."""

    bits_per_element: float
    kept_share: float  # of the numbers that the whole cache has
    as_named: bool  # whether neither speaks against the condition


def sent(
    figure: PublishedAccuracy, answers: Mapping[int, Record], whole: Mapping[int, Record]
) -> Sent:
    """Look at a condition's packets beside those of the whole cache, of the same questions."""
    told = {index: record for index, record in answers.items() if record.elements}
    elements = sum(record.elements for record in told.values())
    bits = ratio(8 * sum(record.wire_bytes for record in told.values()), elements)
    common = [index for index in told if index in whole and whole[index].elements]
    share = ratio(_elements(told[i] for i in common), _elements(whole[i] for i in common))
    named = KV_BITS[figure.codec]
    kept = figure.keep_ratio
    off = not named <= bits <= _MOST_OVER * named, abs(share - kept) > _NEAR * kept
    return Sent(bits, share, not ((told and off[0]) or (common and off[1])))


def _elements(records: Iterable[Record]) -> int:
    return sum(record.elements for record in records)
