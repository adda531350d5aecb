"""What all conditions on one dataset share, and the fingerprints under which results are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from latentwire.spec.axes import AXES, SYSTEMS
from latentwire.spec.condition import Channel, Condition, Message

# Raise when the same inputs may give other results than before; old chunks are then not reused.
EVALUATION_VERSION = 3
MESSAGE_VERSION = 1  # raise when a byte of what competitors read changes; see `data.message`
MAX_NEW_TOKENS = 64  # part of the protocol


@dataclass(frozen=True)
class Setting:
    """What all conditions on one dataset share: together with a condition, all that matters.

    `dtype` is in: in 16 bits, models answer otherwise than in 32. Device, batch size and paths
    are not: they may move a result by rounding only.
    """

    pair: str
    pair_identity: str  # sha256 over model revisions or file hashes, and the fuser's files
    dataset: str
    dataset_hash: str
    prompt_version: int
    dtype: str
    seed: int  # of the derangement

    def identity(self) -> str:
        """Names everything that is the same for all points of one curve, over all datasets."""
        common = asdict(self)
        for name in ("dataset", "dataset_hash"):
            del common[name]
        return _sha256({**common, **_PROTOCOL})

    def condition_fingerprint(self, condition: Condition) -> str:
        """Identifies a condition, whatever the chunks it is computed in."""
        channel, message = condition.channel, condition.message
        content: dict[str, Any] = {
            "system": condition.system,
            "control": condition.control,
            "channel": _said(channel) if channel else None,
        }
        if message:
            content["message"] = _said(message)
        if SYSTEMS[condition.system].competes:
            content["message_version"] = MESSAGE_VERSION
        return _sha256({**asdict(self), **_PROTOCOL, "condition": content})

    def chunk_fingerprint(self, condition: Condition, start: int, stop: int) -> str:
        """Identifies one chunk (examples start to stop, in dataset order) of a condition."""
        return _sha256(
            {"condition": self.condition_fingerprint(condition), "start": start, "stop": stop}
        )


_PROTOCOL = {
    "evaluation_version": EVALUATION_VERSION,
    "max_new_tokens": MAX_NEW_TOKENS,
    "decoding": "greedy",
}
_ALWAYS = {name for name, axis in AXES.items() if not axis.later}


def _said(part: Channel | Message) -> dict[str, Any]:
    """What a fingerprint says of a part: a field at its default only if it always stood there, so
    that a new one changes no fingerprint made before it."""
    values = {each: getattr(part, each.name) for each in fields(part)}
    return {
        each.name: value
        for each, value in values.items()
        if value != each.default or each.name in _ALWAYS
    }


def _sha256(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
