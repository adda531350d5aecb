"""`matched`: the question's own message."""

from latentwire.controls.control import Control

CONTROL = Control("its own (matched)")
