"""The controls by name. A new one is its own file and one line here.

A name is what users write as `control` and what stands in fingerprints: it is never given to
another message.
"""

from importlib import import_module

from latentwire.controls.control import Control

# A control's file is called as it is. In this order they stand in tables.
_FILES = (
    "matched",
    "deranged",
    "zero",
    "mean",
    "noise",
)
CONTROLS: dict[str, Control] = {
    name: import_module(f"latentwire.controls.{name}").CONTROL for name in _FILES
}
MATCHED = "matched"  # a row's own message
DERANGED = "deranged"  # what it is compared with: pairing gains
NOISE = "noise"


def is_lent(control: str) -> bool:
    """Whether the message is another question's, which a seed chooses."""
    return control in CONTROLS and CONTROLS[control].lent


def is_calibrated(control: str) -> bool:
    """Whether the message is made of the pair's calibration."""
    return control in CONTROLS and CONTROLS[control].calibrated


def in_place_of_own() -> list[str]:
    """All but `matched`: a row of the budget curve has columns of each."""
    return [name for name in CONTROLS if name != MATCHED]
