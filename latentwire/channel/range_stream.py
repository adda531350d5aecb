"""Range coding's streams in as few bytes as can be: constriction's (32-bit words, 64-bit state,
probabilities of 24 bits), without the ending that fills words."""

from typing import Any

import constriction
import numpy as np

WORD_BYTES = 4
STATE_BITS = 64
SYMBOL_BITS = 24  # constriction's precision: no symbol costs more

RangeEncoder = constriction.stream.queue.RangeEncoder
RangeDecoder = constriction.stream.queue.RangeDecoder
Categorical = constriction.stream.model.Categorical


def ending(coder: Any) -> bytes:
    """The stream of what a `RangeEncoder` was given; its own ending fills words, two bytes more on
    average.

    An interval of width w holds a multiple of every power of two up to w.
    """
    words = coder.get_compressed()  # some number within the interval
    place, (lower, width) = coder.pos()  # lower: of the interval's start, the last 64 bits
    length = WORD_BYTES * place + STATE_BITS // 8
    inside = int.from_bytes(words.astype(">u4").tobytes().ljust(length, b"\0"), "big")
    start = inside - (inside - lower) % (1 << STATE_BITS)
    spare = (width.bit_length() - 1) // 8  # bytes
    return (-(-start >> 8 * spare)).to_bytes(length - spare, "big")


def opened(stream: bytes) -> Any:
    """A `RangeDecoder` of what `ending` gave."""
    padded = stream + bytes(-len(stream) % WORD_BYTES + STATE_BITS // 8)
    return RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))
