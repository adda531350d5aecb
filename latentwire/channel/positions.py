"""Which tokens of a prompt go: chosen by a selector, said by the packet, obeyed by the receiver."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

from c2c.sections import Runs, runs_of

if TYPE_CHECKING:
    import numpy as np


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
        return cls.of_runs(tuple(map(runs_of, layers)), section)

    @classmethod
    def of_runs(cls, by_layer: tuple[Runs, ...], section: Iterable[int]) -> "Positions":
        """The same, of each layer's runs."""
        if not any(by_layer):
            return cls()
        sections = runs_of(section)
        return cls(sections, () if all(runs == sections for runs in by_layer) else by_layer)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: there may be hundreds of runs, and what is known of one is looked up
        again and again."""
        return hash((self.sections, self.by_layer, self.text_tokens, self.classes, self.most_bytes))

    def __getstate__(self) -> dict[str, object]:
        """The fields alone: another process has other hashes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

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

    @cached_property
    def table(self) -> "np.ndarray":
        """Every run: its layer (0 where they do not differ), start and length, int64 [N, 3]."""
        import numpy as np  # where only names are asked for, it is not waited for

        layers = self.by_layer or (self.sections,)
        runs = [run for each in layers for run in each]
        numbers = [[run.start for run in runs], [len(run) for run in runs]]
        layer = np.repeat(np.arange(len(layers)), list(map(len, layers)))
        return np.stack([layer, *np.array(numbers, dtype=np.int64)], axis=1)

    def _ascend(self) -> bool:
        """Whether the runs of each layer are what `Runs` says."""
        layer, start, length = self.table.T
        same = layer[1:] == layer[:-1]
        apart = start[1:] > start[:-1] + length[:-1]
        return bool((length > 0).all() and (start >= 0).all() and (apart | ~same).all())

    def fault(self, prompt_tokens: int, layers: int) -> str:
        """What is wrong with them for a prompt of that length; "" if nothing is."""
        if not is_runs(self.sections) or not self._ascend():
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
