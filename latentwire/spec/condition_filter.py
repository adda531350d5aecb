"""Which conditions a person means: `codec=klt*,order=front`.

Names of axes with values, joined by commas. An axis that stands several times takes any of its
values, and `*` stands for any characters. Where it is not said otherwise, a cache is sent
(`system=c2c`), and the question's own one (no control).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from latentwire.controls.registry import MATCHED
from latentwire.errors import LatentWireError, quoted
from latentwire.spec.axes import AXES, CACHES, NONE, Point, is_whole, read_params
from latentwire.suggestion import did_you_mean

PAIR = "pair"  # no axis, but told apart by it as well
_UNSAID = {"system": CACHES, "control": (MATCHED, NONE)}


@dataclass(frozen=True)
class ConditionFilter:
    """What was asked for, as text and by axis."""

    text: str
    wanted: Mapping[str, tuple[str, ...]]

    @property
    def names_pair(self) -> bool:
        return PAIR in self.wanted

    def takes(self, point: Point, pair: str) -> bool:
        """Whether a condition of a pair is meant. All or nothing of a cache has no order, but for
        what fits a budget: it is there for every order that is asked for."""
        values = vars(point) | {PAIR: pair}
        if point.keep_ratio == 0 or is_whole(values):
            values.pop("order")
        wanted = {**_UNSAID, **self.wanted}
        return all(
            any(_is(name, values[name], text) for text in wanted[name])
            for name in wanted.keys() & values.keys()
        )

    def takes_run(self, params: Mapping[str, str]) -> bool:
        """Whether a run with these parameters is meant; so it is where they are malformed, which is
        for who reads its answers to say."""
        try:
            return self.takes(Point(**read_params(params)), params[PAIR])
        except (KeyError, ValueError, LatentWireError):
            return True


def condition_filter(text: str) -> ConditionFilter:
    """Read what a person typed.

    Raises LatentWireError for what is no NAME=VALUE, an axis that there is not, and a value that
    its axis cannot have.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not (name and sign and value):
            raise LatentWireError(
                f"{quoted(part)} is no NAME=VALUE: name conditions as in codec=int8,order=front"
            )
        if name not in (*AXES, PAIR):
            known = (*AXES, PAIR)
            raise LatentWireError(
                f"{quoted(name)} is none of {', '.join(known)}{did_you_mean(name, known)}"
            )
        _require_value(name, value)
        wanted[name].append(value)
    return ConditionFilter(text, {name: tuple(values) for name, values in wanted.items()})


def _require_value(name: str, value: str) -> None:
    if name == PAIR or value == NONE:
        return
    axis = AXES[name]
    if axis.allowed and not any(fnmatchcase(str(known), value) for known in axis.allowed):
        known = [str(each) for each in axis.allowed]
        raise LatentWireError(
            f"{name}={quoted(value)}: {name} is one of {', '.join(known)}"
            f"{did_you_mean(value, known)}"
        )
    try:
        axis.read(value)
    except ValueError:
        raise LatentWireError(f"{name}={quoted(value)}: {name} is a number, or {NONE}") from None


def _is(name: str, value: Any, text: str) -> bool:
    """Whether a value is what a text asks for."""
    if value is None or text == NONE:
        return (value is None or value == NONE) and fnmatchcase(NONE, text)
    if isinstance(value, str):
        return fnmatchcase(value, text)
    return bool(value == AXES[name].read(text))
