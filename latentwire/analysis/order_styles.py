"""How the orders by which tokens are chosen look in pictures, and what legends call them."""

from collections.abc import Iterable

from matplotlib.typing import LineStyleType

from latentwire.channel.oracles.registry import ORACLES, orders
from latentwire.spec.axes import AXES, ORACLE, is_oracle

MOST_ORDERS = 4  # told apart by their lines alone
_OWN: dict[str, LineStyleType] = {"front": "-", "back": (0, (3.5, 1.8))}
_OTHERS: tuple[LineStyleType, ...] = ((0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), *_OWN.values())
_ORACLES: tuple[LineStyleType, ...] = ((0, (5, 2)), (0, (2.5, 1.2)))  # all of dashes
# Of W. S. Cleveland's kind: dark enough on white, told apart with the markers.
_COLOURS = (
    *("#000000", "#0072B2", "#E69F00", "#009E73", "#8A8A8A", "#D55E00", "#D55E00", "#56B4E9"),
    *("#56B4E9", "#CC79A7", "#CC79A7", "#7B4FA3", "#7B4FA3", "#8C6D31"),
)
_MARKERS = ("o", "s", "^", "v", "x", "D", "d", "<", ">", "P", "p", "X", "h", "*")
_OF_ORACLES = ("#B00020", "#5A0010")


def order_words(order: str) -> str:
    """An order in a legend: an oracle is called one."""
    return f"oracle: {order.removeprefix(ORACLE)}" if is_oracle(order) else order


def line_styles(drawn: Iterable[str]) -> dict[str, LineStyleType]:
    """Lines by order: oracles are dashed; `front` and `back` look the same in every picture."""
    found: dict[str, LineStyleType] = {}
    others = 0
    for order in sorted(drawn, key=AXES["order"].sort_key):
        if is_oracle(order):
            found[order] = _ORACLES[_place(order) % len(_ORACLES)]
        elif order in _OWN:
            found[order] = _OWN[order]
        else:
            found[order] = _OTHERS[others % len(_OTHERS)]
            others += 1
    return found


def colour_and_marker(order: str) -> tuple[str, str]:
    """The same in every picture; of one rule, over layers and by layer, one colour."""
    if is_oracle(order):
        return _OF_ORACLES[_place(order) % len(_OF_ORACLES)], "o"
    known = list(orders())
    place = known.index(order) if order in known else len(known)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _place(oracle: str) -> int:
    """An oracle's place among all; one that is not known here, as of another version, is first."""
    return list(ORACLES).index(oracle) if oracle in ORACLES else 0
