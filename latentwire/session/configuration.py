"""What a start asks for, with what `auto` means on this machine."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from c2c.errors import printable, shortened
from latentwire.environment import torch_dtype
from latentwire.pairs.load import choose_pair, load_pair
from latentwire.pairs.pair import Pair
from latentwire.parameters import Values
from latentwire.tasks.registry import QuestionSet
from latentwire.terminal import tell

if TYPE_CHECKING:  # it takes seconds to import, and a start that finds all finished needs none
    import torch


@dataclass(frozen=True)
class Configuration:
    """A pair on a device, and the parameters of a milestone. Decided once; nothing changes it."""

    values: Values
    pair: Pair
    device: str
    dtype_name: str

    @property
    def question_sets(self) -> tuple[QuestionSet, ...]:
        """Those that are asked: known ones by name, a user's own as it was read."""
        return self.values["dataset"] or self.pair.datasets

    @property
    def dataset_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.question_sets))

    def question_set(self, name: str) -> QuestionSet:
        """The set of a name: a user's own, or else a known one."""
        return next((each for each in self.question_sets if str(each) == name), name)

    @property
    def dtype(self) -> "torch.dtype":
        return torch_dtype(self.dtype_name)

    @property
    def batch_size(self) -> int | None:
        """Questions at once; None leaves it to the engine, which asks the device."""
        return self.values["batch_size"] or None

    @property
    def may_download(self) -> bool:
        return not self.values["dry_run"]

    @property
    def resolved(self) -> Values:
        """The parameters, with what `auto` meant."""
        return self.values | {
            "pair": self.pair.name,
            "dataset": self.dataset_names,
            "device": self.device,
            "dtype": self.dtype_name,
        }


def chosen_pair(name: str, cuda: bool) -> tuple[Pair, str]:
    """The pair that a parameter means, and why; `cuda`: whether it is to run on such a GPU."""
    known, reason = choose_pair(name, cuda)
    return load_pair(known), reason


def announce(pair: Pair, reason: str, device: str) -> None:
    """A run's first line: which pair and why."""
    text = f"pair {pair.name} ({reason}) on {device}: {shortened(pair.description, 300)}"
    lines = textwrap.wrap(printable(text), 100, subsequent_indent="  ", break_on_hyphens=False)
    tell("\n".join(lines))
