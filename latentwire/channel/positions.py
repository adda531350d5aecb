"""Which tokens of a prompt go: chosen by a selector, said by the packet, obeyed by the receiver."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

from c2c.sections import Runs, runs_of

if TYPE_CHECKING:  # it brings numpy: a list of names should not wait for that
    import numpy as np

    from latentwire.channel.layer_runs import LayerRuns


@dataclass(frozen=True)
class Positions:
    """Sections of the prompt, and which of their tokens each sharer layer sends.

    The receiver works through the sections: it reads what follows one after that one was merged.
    Within a section a token that a layer does not send stays the receiver's own in the layers
    that read it. Nothing goes where there is no section.
    """

    sections: Runs = ()
    # By sharer layer; empty where each sends all of the sections. Best `LayerRuns`: they are quick
    by_layer: Sequence[Runs] = ()
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
    def of_runs(cls, by_layer: Sequence[Runs], section: Iterable[int]) -> "Positions":
        """The same, of each layer's runs."""
        layers, sections = _layer_runs(by_layer), runs_of(section)
        if not len(layers.table):
            return cls()
        return cls(sections, () if layers.are(sections, range(len(layers))) else layers)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: there may be hundreds of runs, and what is known of one is looked up
        again and again."""
        layers = self.by_layer and (len(self.by_layer), self.table.tobytes())
        return hash((self.sections, layers, self.text_tokens, self.classes, self.most_bytes))

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

        by_layer = self.by_layer and _layer_runs([*map(there, self.by_layer)])
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

    @property
    def table(self) -> "np.ndarray":
        """Every run: its layer (0 where they do not differ), start and length, int64 [N, 3]."""
        return self._layers.table

    @cached_property
    def _layers(self) -> "LayerRuns":
        return _layer_runs(self.by_layer or (self.sections,))

    def fault(self, prompt_tokens: int, layers: int) -> str:
        """What is wrong with them for a prompt of that length; "" if nothing is."""
        return self.fault_of_sections(prompt_tokens) or self._fault_of_layers(layers)

    def fault_of_sections(self, prompt_tokens: int) -> str:
        """The same of the sections alone."""
        if not is_runs(self.sections):
            return _NO_RUNS
        if self.sections and self.sections[-1].stop >= prompt_tokens:
            return f"position {self.sections[-1].stop - 1} of a prompt of {prompt_tokens} tokens"
        return ""

    def _fault_of_layers(self, layers: int) -> str:
        if not self.by_layer:
            return ""
        if not self._layers.ascend():
            return _NO_RUNS
        if len(self.by_layer) != layers:
            return f"positions for {len(self.by_layer)} of {layers} layers"
        if len(self._layers.outside(self.sections)):
            return "positions of a layer that lie in no section"
        return ""


_NO_RUNS = "positions do not ascend, or start below 0"


def fault_of_any(chosen: Sequence[Positions], prompt_tokens: Sequence[int], layers: int) -> str:
    """The first `Positions.fault` of several prompts' positions; "" if there is none."""
    told = list(zip(chosen, prompt_tokens, strict=True))
    if fault := next((found for each, n in told if (found := each.fault_of_sections(n))), ""):
        return fault
    apart = [each for each in chosen if each.by_layer]
    if not apart:
        return ""
    from latentwire.channel.layer_runs import all_within

    sections = [each.sections for each in apart]
    sound = all(len(each.by_layer) == layers for each in apart)
    if sound and all_within([each._layers for each in apart], sections):
        return ""  # seen of all at once
    return next((found for each, n in told if (found := each.fault(n, layers))), "")


def is_runs(runs: Runs) -> bool:
    """Whether they are what `Runs` says."""
    ends = [-1, *(run.stop for run in runs)]
    return all(run and run.start > end for run, end in zip(runs, ends, strict=False))


def _layer_runs(layers: Sequence[Runs]) -> "LayerRuns":
    from latentwire.channel.layer_runs import LayerRuns

    return LayerRuns.of(layers)
