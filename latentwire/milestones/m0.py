"""M0: what do receiver, sharer and uncompressed C2C score, and does the content matter?

The cache is sent whole in 16 bits. Under `deranged` it is another question's, under `zero` it is
zeros: what C2C scores above another question's is what the own cache was worth.
"""

from dataclasses import replace

from latentwire.parameters import CONTROLS_SENT, DONORS, STUDY, WORKERS, Values
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

PARAMETERS = (*STUDY, WORKERS, replace(CONTROLS_SENT, default="matched,deranged,zero"), DONORS)


def conditions(values: Values) -> list[Condition]:
    """Each model alone, and the whole cache under every control."""
    sent = [Condition(C2C, Channel("bf16"), control) for control in values["controls"]]
    return [Condition("receiver"), Condition("sharer"), *sent]
