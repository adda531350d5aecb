"""What all conditions on one dataset share, and the fingerprints under which results are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from latentwire.controls.registry import NOISE, is_lent
from latentwire.spec.axes import AXES, SYSTEMS
from latentwire.spec.condition import Channel, Condition, Message

# Raise when the same inputs may give other results than before; old chunks are then not reused.
EVALUATION_VERSION = 3
MESSAGE_VERSION = 1  # raise when a byte of what competitors read changes; `evaluation.message`
# Of the control `noise` under an alignment; 1 had the moments of padding too, and stood nowhere.
NOISE_VERSION = 2
PROMPT_VERSION = 1  # part of every identity, whatever version of its own a task has
USUAL_SEED = 42  # the parameter's default
MAX_NEW_TOKENS = 64  # part of the protocol; a task may have another limit


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
    prompt_version: int  # the task's
    dtype: str
    seed: int  # of the pairing of questions with donors, and of nothing else
    max_new_tokens: int = MAX_NEW_TOKENS
    seed_everywhere: bool = False  # as results were named before; see `before`

    def before(self) -> "Setting":
        """The setting under which its results were kept when every fingerprint had the seed."""
        return replace(self, seed_everywhere=True)

    def identity(self) -> str:
        """Names everything that is the same for all points of one curve, over all datasets."""
        common = self._said(self.seed_everywhere)
        for name in ("dataset", "dataset_hash"):
            del common[name]
        # What a task declares is one dataset's: it stands in the fingerprints alone.
        common |= {"prompt_version": PROMPT_VERSION, "max_new_tokens": MAX_NEW_TOKENS}
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
        if condition.donor > 1:
            content["donor"] = condition.donor
        if condition.control_calibration:
            content["control_calibration"] = condition.control_calibration
        if condition.control == NOISE and condition.alignment:
            content["noise_version"] = NOISE_VERSION
        if SYSTEMS[condition.system].competes:
            content["message_version"] = MESSAGE_VERSION
        with_seed = is_lent(condition.control) or self.seed_everywhere
        return _sha256({**self._said(with_seed), **_PROTOCOL, "condition": content})

    def chunk_fingerprint(self, condition: Condition, start: int, stop: int) -> str:
        """Identifies one chunk (examples start to stop, in dataset order) of a condition."""
        return _sha256(
            {"condition": self.condition_fingerprint(condition), "start": start, "stop": stop}
        )

    def _said(self, with_seed: bool) -> dict[str, Any]:
        """The fields. One seed stood in all fingerprints, so it goes on to, where none matters."""
        content = asdict(self) | ({} if with_seed else {"seed": USUAL_SEED})
        del content["seed_everywhere"]
        return content


_PROTOCOL = {"evaluation_version": EVALUATION_VERSION, "decoding": "greedy"}
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
