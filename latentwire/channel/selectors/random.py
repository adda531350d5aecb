"""`random`: any tokens, drawn by the prompt alone: what the others must beat.

A token's lot is the SHA-256 of the prompt's ids and its position, so that every machine draws the
same, and what goes at a small budget goes at a larger one too.
"""

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from latentwire.channel.positions import Positions
from latentwire.channel.selectors.selector import Budget, Selector


class Random(Selector):
    help = "any, drawn by the prompt"

    def select(self, sharer_cache: Any, prompt: Sequence[int], budget: Budget) -> Positions:
        seed = sha256(struct.pack(f"<{len(prompt)}q", *prompt)).digest()

        def lot(position: int) -> bytes:
            return sha256(seed + struct.pack("<q", position)).digest()

        drawn = sorted(range(len(prompt) - 1), key=lot)
        return Positions.of(drawn[: budget.tokens(len(prompt))])


SELECTOR = Random()
