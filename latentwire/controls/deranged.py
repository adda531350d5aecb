"""`deranged`: another question's message. What the own one scores above it is the pairing gain."""

from latentwire.controls.control import Control

CONTROL = Control("another question's (deranged)", lent=True)
