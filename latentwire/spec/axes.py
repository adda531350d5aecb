"""What tells conditions apart, declared once: systems and axes.

The parameters of runs, the columns and the order of the budget curve, labels, fingerprints and the
report's filters all follow from here.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from c2c.paired_prompts import ALIGNMENTS
from c2c.sections import ORDERS
from latentwire.controls.registry import CONTROLS, is_lent
from latentwire.errors import LatentWireError

NONE = "none"  # what stands where an axis has no value
MIXED = "mixed"  # bits of a codec whose layers differ
WHOLE = "full"  # the label of a cache of which everything is kept
CACHE, TEXT, ANSWER = "cache", "text", "answer"  # what a system sends
LM = "lm"  # a text coded by the receiver's own model
BYTE_CODECS = ("utf8", "utf8+zstd")
TEXT_CODECS = (*BYTE_CODECS, LM)
BUDGETS = ("budget_bytes", "budget_ratio")  # the axes of a packet's most bytes: one at most is set


@dataclass(frozen=True)
class System:
    """Who answers, and what is sent for it."""

    label: str
    sends: str = ""  # CACHE, TEXT or ANSWER; nothing where a model answers alone
    competes: bool = False  # with caches, on the same axis: what it reads has a version
    of_evidence: bool = False  # only where the sharer alone reads something
    of_question: bool = False  # only where the sharer reads the question, and so has an answer
    of_options: bool = False  # only where there are options, of which probabilities are read

    @property
    def controls(self) -> tuple[str, ...]:
        """What can be sent in place of the own message."""
        if not self.sends:
            return (NONE,)
        of_caches = self.sends == CACHE  # there are no zeros of a text
        return tuple(n for n, control in CONTROLS.items() if of_caches or not control.message)

    def serves(self, private: bool, options: bool) -> bool:
        """Whether it can answer: where evidence is `private`, the sharer reads it and nothing
        else; and there are `options` to choose from, or none."""
        if (private and self.of_question) or (not private and self.of_evidence):
            return False
        return options or not self.of_options


C2C = "c2c"
SYSTEMS = {  # in the order of the budget curve
    "receiver": System("receiver alone"),
    "sharer": System("sharer alone"),
    "calibrated": System("receiver calibrated", competes=True, of_options=True),
    "letter": System("letter", ANSWER, competes=True, of_question=True),
    "logits": System("logits", ANSWER, competes=True, of_question=True, of_options=True),
    "text": System("text", TEXT, competes=True),
    "summary": System("summary", TEXT, competes=True, of_evidence=True),
    C2C: System(C2C, CACHE),
}
CACHES = tuple(name for name, system in SYSTEMS.items() if system.sends == CACHE)
TEXTS = tuple(name for name, system in SYSTEMS.items() if system.sends == TEXT)
SENDING = tuple(name for name, system in SYSTEMS.items() if system.sends)
ALONE = tuple(name for name, system in SYSTEMS.items() if not system.sends)
BASELINES = tuple(name for name, system in SYSTEMS.items() if system.competes)


ORACLE = "oracle_"  # what the name of an order begins with that knows the receiver's cache


def is_oracle(order: str | None) -> bool:
    """Whether tokens are chosen by what no sender knows."""
    return order is not None and order.startswith(ORACLE)


def order_key(order: str | None) -> tuple[bool, bool, int, str]:
    """Sorts orders: the published two, then all others by name, oracles behind, then none. Which
    there are is for `channel.oracles.registry` to say."""
    place = ORDERS.index(order) if order in ORDERS else len(ORDERS)
    return order is None, is_oracle(order), place, order or ""


def is_missing(value: Any) -> bool:
    """Whether a row holds nothing: None, NaN, or pandas' NA, which is neither true nor false."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def has_budget(row: Mapping[Any, Any]) -> bool:
    """Whether its packets have a budget in bytes. Rows made before there were any have none."""
    return not all(is_missing(row.get(name)) for name in BUDGETS)


def is_whole(row: Mapping[Any, Any]) -> bool:
    """Whether all of the cache is sent, however many bytes that takes."""
    return bool(row["keep_ratio"] == 1) and not has_budget(row)


def _kept_label(row: Mapping[Any, Any]) -> str:
    ratio = row["keep_ratio"]
    return f"{ratio:g}" if ratio != 1 else "" if has_budget(row) else WHOLE


def share_label(ratio: float) -> str:
    """1/16 for 0.0625; what is no such part as it is."""
    of = Fraction(ratio).limit_denominator(1024)
    return str(of) if of.numerator == 1 and float(of) == ratio else f"{ratio:g}"


@dataclass(frozen=True)
class Axis:
    """How the values of one axis are kept, written and ordered."""

    rank: int  # its place where rows are sorted
    read: Callable[[str], Any] = str  # a value from a run's parameter
    column: str = "string"  # type of its column in the budget curve; see `curve.COLUMNS`
    systems: tuple[str, ...] = tuple(SYSTEMS)  # to which it applies
    allowed: Collection[Any] = ()  # its values; any, if empty
    absent: Any = None  # what rows hold where it does not apply
    optional: bool = False  # may be absent where it applies
    # Not of the first version: runs may lack its parameter, and at its default it is left out of
    # fingerprints, so that those of conditions made before are what they were.
    later: bool = False
    derived: bool = False  # follows from other axes: tells no conditions apart
    sort_key: Callable[[Any], Any] = lambda value: value or ""
    label: Callable[[Mapping[Any, Any]], str] = lambda row: ""  # its word in a condition's name
    title: str = ""  # of its filter in the report; none without


def _axis(**declared: Any) -> Any:
    axis = Axis(**declared)
    return field(metadata={"axis": axis}, **({"default": axis.absent} if axis.later else {}))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One value on every axis: the fields of this class are the axes.

    Raises LatentWireError for values that do not go together.
    """

    system: str = _axis(
        rank=0,
        allowed=tuple(SYSTEMS),
        sort_key=tuple(SYSTEMS).index,
        label=lambda row: SYSTEMS[row["system"]].label,
    )
    codec: str = _axis(
        rank=3,
        systems=CACHES + TEXTS,
        absent=NONE,
        label=lambda row: str(row["codec"]),
        title="Codec",
    )
    # sha256 (hex) of what a calibrated codec was fitted with
    calibration: str | None = _axis(rank=4, systems=CACHES, optional=True, later=True)
    kv_bits: float | None = _axis(  # None where they differ by layer
        rank=2,
        read=lambda text: None if text == MIXED else float(text),
        column="float64",
        systems=CACHES,
        optional=True,
        derived=True,
        sort_key=lambda bits: -(bits or 0),
    )
    keep_ratio: float | None = _axis(
        rank=5,
        read=float,
        column="float64",
        systems=CACHES,
        sort_key=lambda ratio: -(ratio or 0.0),
        label=_kept_label,
    )
    order: str | None = _axis(
        rank=6,
        systems=CACHES,
        sort_key=order_key,
        label=lambda row: "" if is_whole(row) else str(row["order"]),
        title="End kept (shorter caches)",
    )
    message_tokens: int | None = _axis(  # most tokens of a text
        rank=1,
        read=int,
        column="Int64",
        systems=TEXTS,
        later=True,
        sort_key=lambda tokens: tokens or 0,
        label=lambda row: f"{row['message_tokens']} tokens",
    )
    # How the prompts of two tokenizers go together; None: both models read the same ids
    alignment: str | None = _axis(
        rank=7,
        systems=CACHES,
        allowed=ALIGNMENTS,
        optional=True,
        later=True,
        label=lambda row: str(row["alignment"]),
        title="Alignment of tokenizers",
    )
    # Most bytes of a packet: as they are, or as a share of those of the whole cache in 16 bits
    budget_bytes: int | None = _axis(
        rank=8,
        read=int,
        column="Int64",
        systems=CACHES + TEXTS,
        optional=True,
        later=True,
        sort_key=lambda most: -math.inf if is_missing(most) else -most,
        label=lambda row: f"within {row['budget_bytes']} bytes",
        title="Budget in bytes",
    )
    budget_ratio: float | None = _axis(
        rank=9,
        read=float,
        column="float64",
        systems=CACHES,
        optional=True,
        later=True,
        sort_key=lambda share: -math.inf if is_missing(share) else -share,
        label=lambda row: f"within {share_label(row['budget_ratio'])}",
        title="Budget as a share of 16 bits",
    )
    control: str = _axis(
        rank=10,
        systems=SENDING,
        allowed=CONTROLS,
        absent=NONE,
        label=lambda row: str(row["control"]),
        title="Cache sent",
    )
    # Which of a question's donors lends its message, from 1; None: it is the question's own
    donor: int | None = _axis(
        rank=11,
        read=int,
        column="Int64",
        systems=SENDING,
        optional=True,
        later=True,
        label=lambda row: f"donor {row['donor']}" if row["donor"] > 1 else "",
    )
    # sha256 (hex) of the calibration that the control's message is made of
    control_calibration: str | None = _axis(rank=12, systems=CACHES, optional=True, later=True)

    def __post_init__(self) -> None:
        lent = is_lent(self.control)
        if lent and self.donor is None:  # of a run made when there was one
            object.__setattr__(self, "donor", 1)
        require_fitting(vars(self))
        if self.donor is not None and not (lent and self.donor > 0):
            raise LatentWireError(f"{self.control}: it has no donor {self.donor}")
        if self.control not in SYSTEMS[self.system].controls:
            raise LatentWireError(f"{self.system}: it has no control {self.control!r}")

    @property
    def place(self) -> tuple[Any, ...]:
        """What identifies its row in a budget curve: its values on PLACE_AXES."""
        return tuple(getattr(self, name) for name in PLACE_AXES)


AXES: dict[str, Axis] = {each.name: each.metadata["axis"] for each in fields(Point)}
# Whose message is sent: a row has columns of it.
ROW_AXES = tuple(name for name in AXES if not name.startswith(("control", "donor")))
PLACE_AXES = tuple(name for name in ROW_AXES if not AXES[name].derived)
_BY_RANK = sorted(ROW_AXES, key=lambda name: AXES[name].rank)


def or_none(value: Any) -> Any:
    """The value, and None where a row holds nothing."""
    return None if is_missing(value) else value


def applying(system: str) -> list[str]:
    """The axes on which a system has values."""
    return [name for name, axis in AXES.items() if system in axis.systems]


def require_fitting(row: Mapping[str, Any]) -> None:
    """Raise LatentWireError where a value is none of its axis, or does not go with its system.

    Of a row's axes alone: what else it holds is not looked at.
    """
    system = row["system"]
    for name in (name for name in AXES if name in row):
        axis, value = AXES[name], row[name]
        there = not is_missing(value) and value != axis.absent
        if there and axis.allowed and value not in axis.allowed:
            raise LatentWireError(f"{name} is {value!r}, not one of {tuple(axis.allowed)}")
        applies = system in axis.systems
        if there and not applies:
            raise LatentWireError(f"{name} {value!r} does not go with {system}")
        if applies and not there and not axis.optional:
            raise LatentWireError(f"{name} of {system} is empty")


def sort_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Orders rows of one family: by system; texts from short to long, and caches from many bits,
    long ones and `front` to few, short and `back`."""
    return tuple(AXES[name].sort_key(row[name]) for name in _BY_RANK)


def params_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as the parameters of runs."""
    return {
        name: NONE if values[name] is None else str(values[name]) for name in AXES if name in values
    }


def read_params(params: Mapping[str, str]) -> dict[str, Any]:
    """The values that a run's parameters say. KeyError or ValueError for malformed ones."""
    found = {}
    for name, axis in AXES.items():
        text = params.get(name, NONE) if axis.later else params[name]
        found[name] = axis.absent if text == NONE else axis.read(text)
    return found
