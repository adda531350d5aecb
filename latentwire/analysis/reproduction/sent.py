"""Was what a condition is named by really sent? Packets tell it where answers cannot: those of the
whole cache in 16, 8 and 4 bits are alike."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from c2c.sections import kept_tokens
from latentwire.analysis.letter_distribution import ratio
from latentwire.analysis.reproduction.published_accuracies import KV_BITS, PublishedAccuracy
from latentwire.evaluation.record import Record

# Scales and headers come on top of a codec's bits; the next codec has twice as many.
_MOST_OVER = 1.25
_NEAR = 0.05  # of the share of tokens that its rounding, question by question, leaves


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
    numbers = _elements(whole[i] for i in common)
    share = ratio(_elements(told[i] for i in common), numbers)
    named = KV_BITS[figure.codec]
    kept = ratio(sum(_kept(whole[i], figure.keep_ratio) for i in common), numbers)
    off = not named <= bits <= _MOST_OVER * named, abs(share - kept) > _NEAR * kept
    return Sent(bits, share, not ((told and off[0]) or (common and off[1])))


def _kept(whole: Record, keep_ratio: float) -> float:
    """The numbers of so many of its tokens: a tenth of 109 is 10, which a trial run of a few
    questions would show as another share."""
    tokens = whole.prompt_tokens
    return whole.elements * kept_tokens(tokens, keep_ratio) / max(1, tokens - 1)


def _elements(records: Iterable[Record]) -> int:
    return sum(record.elements for record in records)
