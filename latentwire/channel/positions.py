"""Which tokens of a prompt go: chosen by a selector, said by the packet, obeyed by the receiver."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from c2c.sections import Runs, runs_of


@dataclass(frozen=True)
class Positions:
    """Sections of the prompt, and which of their tokens each sharer layer sends.

    The receiver works through the sections: it reads what follows one after that one was merged.
    Within a section a token that a layer does not send stays the receiver's own in the layers
    that read it. Nothing goes where there is no section.
    """

    sections: Runs = ()
    by_layer: tuple[Runs, ...] = ()  # by sharer layer; empty where each sends all of the sections
    # Tokens of the whole text, where the receiver must be told: its own prompt stands behind it.
    # 0: it knows, or the text ends with the last section.
    text_tokens: int = 0
    # The class of each of the sections' tokens, a byte each, for a codec that has any (`by_token`)
    classes: bytes = b""
    # Of the packet, where its stream ends there (`EmbeddedCodec`); 0: it is whole
    most_bytes: int = 0

    @classmethod
    def of(cls, tokens: Iterable[int]) -> "Positions":
        """The same tokens in every layer; those that stand together are one section."""
        return cls(runs_of(tokens))

    @classmethod
    def of_layers(cls, layers: Sequence[Iterable[int]], section: Iterable[int]) -> "Positions":
        """Tokens for each of the sharer's layers, all of them among those of `section`."""
        sections, by_layer = runs_of(section), tuple(map(runs_of, layers))
        if not any(by_layer):
            return cls()
        return cls(sections, () if all(runs == sections for runs in by_layer) else by_layer)

    def told(self, text_tokens: int) -> "Positions":
        """The same, said to be of a text of that many tokens."""
        ended = not self.sections or self.sections[-1].stop == text_tokens
        return replace(self, text_tokens=0 if ended else text_tokens)

    def moved(self, to: Mapping[int, int]) -> "Positions":
        """The same tokens where `to`, which ascends, says that each position is."""

        def there(runs: Runs) -> Runs:
            return runs_of(to[position] for run in runs for position in run)

        by_layer = tuple(map(there, self.by_layer))
        return replace(self, sections=there(self.sections), by_layer=by_layer)

    @property
    def end(self) -> int:
        """Where the text ends, as far as the receiver knows."""
        return self.text_tokens or (self.sections[-1].stop if self.sections else 0)

    @property
    def count(self) -> int:
        """Tokens of all sections."""
        return sum(map(len, self.sections))

    @property
    def left_out(self) -> int:
        """Tokens of the text, up to its end, that are in no section."""
        return self.end - self.count

    def runs(self, layer: int) -> Runs:
        """What one sharer layer sends."""
        return self.by_layer[layer] if self.by_layer else self.sections

    def tokens(self, layer: int) -> list[int]:
        """What one sharer layer sends, position by position."""
        return [position for run in self.runs(layer) for position in run]

    def placed(self, layer: int) -> Iterator[tuple[int, range]]:
        """The runs that a layer sends, each with its first token's place among all that it
        sends."""
        place = 0
        for run in self.runs(layer):
            yield place, run
            place += len(run)

    def fault(self, prompt_tokens: int, layers: int) -> str:
        """What is wrong with them for a prompt of that length; "" if nothing is."""
        if not is_runs(self.sections) or not all(map(is_runs, self.by_layer)):
            return "positions do not ascend, or start below 0"
        if self.sections and self.sections[-1].stop >= prompt_tokens:
            return f"position {self.sections[-1].stop - 1} of a prompt of {prompt_tokens} tokens"
        if self.by_layer and len(self.by_layer) != layers:
            return f"positions for {len(self.by_layer)} of {layers} layers"
        if not all(lies_within(runs, self.sections) for runs in self.by_layer):
            return "positions of a layer that lie in no section"
        return ""


def is_runs(runs: Runs) -> bool:
    """Whether they are what `Runs` says."""
    ends = [-1, *(run.stop for run in runs)]
    return all(run and run.start > end for run, end in zip(runs, ends, strict=False))


def lies_within(runs: Runs, sections: Runs) -> bool:
    """Whether each run, of `runs` that are what `Runs` says, lies in one of the sections."""
    if len(sections) == 1 and runs:
        return sections[0].start <= runs[0].start and runs[-1].stop <= sections[0].stop
    starts = [section.start for section in sections]
    found = [bisect_right(starts, run.start) - 1 for run in runs]
    return all(
        place >= 0 and run.stop <= sections[place].stop
        for run, place in zip(runs, found, strict=True)
    )
