"""What two models with different tokenizers read of one conversation, and which token goes where.

By the published rule (`first`, `longest`; see `alignment`), both prompts are of one length and a
message's tokens stand at the same places. By `offsets` each model reads its own prompt as it
would alone, and a token of the receiver's takes the sharer's token that holds its last character.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from c2c.alignment import STRATEGIES, AlignedPrompt, Aligner, SpannedSection, spanned_sections
from c2c.chat import Messages

OFFSETS = "offsets"
ALIGNMENTS = (*STRATEGIES, OFFSETS)
OFF = "off"  # each model reads a text of its own, and no token has another to go to


@dataclass(frozen=True)
class PairedPrompts:
    """The two prompts in token ids, and which of their tokens belong together.

    Positions run over padding. A message's tokens alone have sources; the last token of neither
    prompt has one or is one.
    """

    sharer_ids: tuple[int, ...]
    receiver_ids: tuple[int, ...]
    # Of each of the receiver's tokens the sharer's token that is merged into it; None: no token is.
    sources: tuple[int | None, ...]
    sharer_pads: tuple[int, ...] = ()  # positions of padding, which that model alone does not see
    receiver_pads: tuple[int, ...] = ()

    @cached_property
    def sendable(self) -> tuple[int, ...]:
        """The sharer's tokens that go to some token of the receiver's, ascending."""
        return tuple(sorted({source for source in self.sources if source is not None}))

    @cached_property
    def keeps_places(self) -> bool:
        """Whether every token goes where it stood."""
        return all(source in (None, place) for place, source in enumerate(self.sources))

    @property
    def one_to_one(self) -> tuple[int, int]:
        """How many of the receiver's tokens of messages have a token of the sharer's for their
        own, and how many of these tokens there are."""
        taken = Counter(source for source in self.sources if source is not None)
        return sum(count == 1 for count in taken.values()), taken.total()


def paired_prompts(
    receiver: Any, sharer: Any, alignment: str, messages: Messages, open_answer: bool = True
) -> PairedPrompts:
    """The prompts of a conversation by one of ALIGNMENTS, for two fast tokenizers.

    Raises C2CError as `Aligner` and `Aligner.align` do.
    """
    if alignment != OFFSETS:
        aligner = _aligner(receiver, sharer, alignment)
        return _by_rule(aligner.align(messages, open_answer))
    _aligner(receiver, sharer, STRATEGIES[0])  # the same tokenizers are refused
    return _by_offsets(
        spanned_sections(receiver, "receiver", messages, open_answer),
        spanned_sections(sharer, "sharer", messages, open_answer),
    )


@lru_cache(maxsize=8)
def _aligner(receiver: Any, sharer: Any, strategy: str) -> Aligner:
    """Kept, since it remembers the tokens that it has looked up."""
    return Aligner(receiver, sharer, strategy)


def _by_rule(aligned: AlignedPrompt) -> PairedPrompts:
    places = range(len(aligned.message))
    return PairedPrompts(
        tuple(aligned.sharer_ids),
        tuple(aligned.receiver_ids),
        _without_last(
            [place if message else None for place, message in enumerate(aligned.message)], places
        ),
        tuple(place for place in places if aligned.sharer_pad[place]),
        tuple(place for place in places if aligned.receiver_pad[place]),
    )


def _by_offsets(
    receiver: Sequence[SpannedSection], sharer: Sequence[SpannedSection]
) -> PairedPrompts:
    sources: list[int | None] = []
    sharer_ids: list[int] = []
    receiver_ids: list[int] = []
    for own, sent in zip(receiver, sharer, strict=True):
        first = len(sharer_ids)
        if own.is_message and sent.ids:
            found = offset_sources(own.spans, sent.spans, own.characters)
            sources += [first + place for place in found]
        else:
            sources += [None] * len(own.ids)
        receiver_ids += own.ids
        sharer_ids += sent.ids
    return PairedPrompts(
        tuple(sharer_ids), tuple(receiver_ids), _without_last(sources, range(len(sharer_ids)))
    )


def _without_last(sources: list[int | None], sharer: range) -> tuple[int | None, ...]:
    """The sources without the prompts' last tokens, of which no message is made."""
    kept = [
        source if source is not None and source + 1 < len(sharer) else None for source in sources
    ]
    return (*kept[:-1], None)


def offset_sources(
    receiver: Sequence[tuple[int, int]], sharer: Sequence[tuple[int, int]], characters: int
) -> list[int]:
    """For each of the receiver's tokens of a message the sharer's token (at least one) that holds
    its last character; tokens are spans of the message's `characters`.

    Where several tokens share that character, as bytes of an emoji do, the receiver's are spread
    over the sharer's in order. A character that the sharer has no token for goes to the token
    before it. Sources never descend, and equal tokenizations give each token itself.
    """
    own, theirs = _holders(receiver, characters), _holders(sharer, characters)
    sources: list[int] = []
    for token, (begin, end) in enumerate(receiver):
        last = min(max(end - 1, begin, 0), characters - 1)
        sharing, holding = own[last], theirs[last]
        if holding:
            rank = sharing.index(token) if token in sharing else len(sharing) - 1
            found = holding[-(-(rank + 1) * len(holding) // max(1, len(sharing))) - 1]
        else:
            found = max((t for t, (start, _) in enumerate(sharer) if start <= last), default=0)
        sources.append(max([found, *sources[-1:]]))
    return sources


def _holders(spans: Sequence[tuple[int, int]], characters: int) -> list[list[int]]:
    """The tokens that hold each character, in order."""
    holders: list[list[int]] = [[] for _ in range(characters)]
    for token, (begin, end) in enumerate(spans):
        for character in range(max(begin, 0), min(end, characters)):
            holders[character].append(token)
    return holders
