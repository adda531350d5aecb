"""M3: what does cache length cost? A part of the cache, from its front or its back, in int8."""

from dataclasses import replace

from latentwire.channel.registry import BY_BITS
from latentwire.milestones.grid import run_grid
from latentwire.milestones.milestone import MilestoneRun
from latentwire.parameters import (
    CALIBRATION,
    CODEC,
    CONTROLS_SENT,
    KEEP_RATIOS,
    KV_BITS,
    ORDER,
    STUDY,
    WORKERS,
    Values,
)
from latentwire.session.session import Session
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

PARAMETERS = (
    *STUDY,
    WORKERS,
    replace(KV_BITS, default="8"),
    CODEC,
    CALIBRATION,
    KEEP_RATIOS,
    ORDER,
    CONTROLS_SENT,
)


def conditions(values: Values) -> list[Condition]:
    """Every codec, keep ratio, order and control; the whole cache, which has no order, once."""
    codecs = values["codec"] or [BY_BITS[bits] for bits in values["kv_bits"]]
    channels = [
        Channel(name, keep_ratio, order)
        for name in codecs
        for keep_ratio in values["keep_ratio"]
        for order in values["order"]
    ]
    return [
        Condition(C2C, channel, control)
        for channel in dict.fromkeys(channels)
        for control in values["controls"]
    ]


def run_in(session: Session, parent: MilestoneRun | None = None) -> None:
    """The milestone on a session that is open already."""
    run_grid(session, "m3", conditions(session.values), parent)
