"""A condition, one point of a grid: who answers, and what is sent for it."""

from dataclasses import dataclass

from latentwire.controls.registry import is_lent
from latentwire.errors import LatentWireError
from latentwire.spec.axes import (
    AXES,
    BUDGETS,
    CACHE,
    NONE,
    SYSTEMS,
    TEXT,
    TEXT_CODECS,
    Point,
    params_of,
)
from latentwire.spec.names import label


@dataclass(frozen=True)
class Channel:
    """Selector, codec and budget. Keeping everything or nothing has no order: it is written as
    `front`. Under a budget no packet is longer: fewer tokens go where not all fit.

    Which codecs and selectors there are is for their registries to say.
    """

    codec: str
    keep_ratio: float = 1.0
    order: str = "front"  # the selector's name
    calibration: str = ""  # sha256 (hex) of the artifact, for a codec that needs one
    alignment: str = ""  # of two tokenizers' prompts; "" where both models read the same ids
    budget_bytes: int = 0  # most bytes of a packet, all in; 0: no such budget
    # The same as a share of the whole cache's own packet in 16 bits; 0: no such budget
    budget_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.keep_ratio <= 1:
            raise LatentWireError(f"keep_ratio must be between 0 and 1, not {self.keep_ratio}")
        # 1 and 1.0 are one channel, and so are 0.0 and -0.0: one spelling, one fingerprint.
        object.__setattr__(self, "keep_ratio", float(self.keep_ratio) + 0.0)
        object.__setattr__(self, "budget_ratio", float(self.budget_ratio) + 0.0)
        if not (0 <= self.budget_ratio <= 1 and self.budget_bytes >= 0):
            raise LatentWireError("a budget is 1 byte or more, or a share of at most 1")
        if self.budget_bytes and self.budget_ratio:
            raise LatentWireError("budget_bytes and budget_ratio do not go together: give one")
        if not self.has_budget or self.keep_ratio == 0:
            object.__setattr__(self, "order", order_of(self.keep_ratio, self.order))

    @property
    def has_budget(self) -> bool:
        """Whether a packet's length is bounded."""
        return bool(self.budget_bytes or self.budget_ratio)


def order_of(keep_ratio: float, order: str) -> str:
    """By which selector tokens are kept, without a budget. For all or nothing there is no choice:
    it is written as `front`, so that what is one condition has one name."""
    return "front" if keep_ratio in (0, 1) else order


@dataclass(frozen=True)
class Message:
    """What the sharer writes to the receiver, and how it is sent."""

    codec: str  # one of TEXT_CODECS
    tokens: int  # at most that many are written
    budget_bytes: int = 0  # most bytes of what is sent: a longer text is cut; 0: no such budget

    def __post_init__(self) -> None:
        if self.codec not in TEXT_CODECS:
            raise LatentWireError(
                f"a message's codec is one of {', '.join(TEXT_CODECS)}, not {self.codec!r}"
            )
        if self.tokens < 1:
            raise LatentWireError(f"message_tokens must be 1 or more, not {self.tokens}")
        if self.budget_bytes < 0:
            raise LatentWireError(f"budget_bytes must be 1 or more, not {self.budget_bytes}")


@dataclass(frozen=True)
class Condition:
    """Who answers, and what is sent: a cache through a channel, or a message."""

    system: str  # one of SYSTEMS
    channel: Channel | None = None
    control: str = NONE  # one of the system's
    message: Message | None = None
    donor: int = 1  # which of a question's donors, where the control lends a message
    control_calibration: str = ""  # sha256 (hex) of the artifact, for a control made of one

    def __post_init__(self) -> None:
        assert self.system in SYSTEMS
        system = SYSTEMS[self.system]
        assert (self.channel is not None) == (system.sends == CACHE)
        assert (self.message is not None) == (system.sends == TEXT)
        assert self.control in system.controls
        assert self.donor == 1 or (is_lent(self.control) and self.donor > 0)

    @property
    def point(self) -> Point:
        """Its values, axis by axis; without those that only its codec knows."""
        values = {name: axis.absent for name, axis in AXES.items()}
        values |= {"system": self.system, "control": self.control}
        if is_lent(self.control):
            values["donor"] = self.donor
        values["control_calibration"] = self.control_calibration or None
        if self.channel is not None:
            names = ("calibration", "alignment", *BUDGETS)
            later = {name: getattr(self.channel, name) or None for name in names}
            values |= vars(self.channel) | later
        if self.message is not None:
            values |= {"codec": self.message.codec, "message_tokens": self.message.tokens}
            values |= {"budget_bytes": self.message.budget_bytes or None}
        return Point(**values)

    @property
    def sends(self) -> tuple[str, int]:
        """Whose message it is: conditions that share it send one."""
        return self.control, self.donor

    @property
    def alignment(self) -> str:
        """Of the prompts that are read; "" where no cache is sent."""
        return self.channel.alignment if self.channel else ""

    def params(self) -> dict[str, str]:
        """The names that users filter by, the same at every level of runs."""
        values = vars(self.point)
        return params_of({name: values[name] for name in AXES if not AXES[name].derived})

    @property
    def label(self) -> str:
        """Short and readable, for run names and progress bars."""
        return label(vars(self.point))
