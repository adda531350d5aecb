"""What batches of one pair have in common, and how much goes together on a device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from transformers import PreTrainedModel

from c2c.batched_decoding import Decoder
from c2c.pieces import AtOnce, rounded
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.memory import free_cache, out_of_memory
from latentwire.evaluation.room import Room

# On a GPU a pass through a model is more than a thousand launches, whatever it holds.
READ_AT_ONCE = {
    "cuda": AtOnce(tokens=32_768, padding=4_096),
    "mps": AtOnce(tokens=8_192, padding=4_096),
    "cpu": AtOnce(tokens=2_048, padding=128),
}
# Tokens that go through a projector together.
FUSED_AT_ONCE = {"cuda": 131_072, "mps": 8_192, "cpu": 2_048}

_T = TypeVar("_T")


@dataclass
class Workspace:
    """What batches have in common: the pair, its interface, and decoders that are used again."""

    pair: LoadedPair
    use_graphs: bool = True
    on_phase_end: Callable[[str], None] = lambda phase: None  # told when a phase ends, for timings
    room: Room | None = None  # what batches are made to fit
    # Of the batches at hand the most examples, and the most slots, each under one condition.
    most_examples: int = 0
    most_slots: int = 0
    _served: str = ""
    _decoders: dict[str, Decoder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.merge = self.pair.interface.batched()

    @property
    def at_once(self) -> AtOnce:
        """What goes through a model together."""
        return self.by_device(READ_AT_ONCE)

    def by_device(self, each: Mapping[str, _T]) -> _T:
        """What is for the pair's kind of device."""
        return each.get(self.pair.device.type, each["cpu"])

    def decoder(
        self, name: str, model: PreTrainedModel, rows: int, slots: int, conditions: int = 0
    ) -> Decoder:
        """The model's decoder, made anew when it is too small: then large enough for all of the
        batches at hand, where these have so many conditions, and for what it held."""
        most_slots, most_rows = conditions * self.most_slots, conditions * self.most_examples
        if name in self._decoders and not self._decoders[name].holds(rows, slots):
            former = self._decoders.pop(name)  # before the next one, not after
            most_slots = max(most_slots, former.all_slots)
            most_rows = max(most_rows, len(former.tokens))
            del former
        if name not in self._decoders:
            rows = max(rows, -(-most_slots // rounded(slots)))
            first = name == "sharer"  # it writes beside the receiver, which has far more to do
            self._decoders[name] = Decoder(model, rows, slots, self.use_graphs, most_rows, first)
        self._decoders[name].divide(slots)
        return self._decoders[name]

    def serve(self, kind: str) -> None:
        """What comes is of this kind: the decoders of another would leave no room for its own."""
        if self._served not in ("", kind):
            self.release()
        self._served = kind

    def release(self) -> None:
        """Give the decoders' memory back, and what else nothing uses any more."""
        self._decoders.clear()
        free_cache(self.pair.device)

    def attempt(self, run: Callable[[], _T]) -> _T | None:
        """What `run` returns; None where memory does not suffice, with all of it given back, so
        that less can be tried (`memory.shrink_batch`)."""
        try:
            return run()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        self.release()  # not in the handler: there the error holds the batch's tensors
        return None
