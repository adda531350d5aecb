"""A condition, one point of a grid, and the fingerprint under which its results are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from c2c.sections import ORDERS
from latentwire.channel.registry import bits_label, codec, needs_calibration
from latentwire.channel.text import TEXT_CODECS
from latentwire.errors import LatentWireError

# Raise when the same inputs may give other results than before; old chunks are then not reused.
EVALUATION_VERSION = 3
MAX_NEW_TOKENS = 64  # part of the protocol; a task may have another limit
PROMPT_VERSION = 1  # part of every identity, whatever version of its own a task has
# Of what baselines read and write (evaluation/message.py): raise it whenever a byte changes.
MESSAGE_VERSION = 1

SYSTEMS = ("receiver", "sharer", "c2c", "text", "letter", "logits", "calibrated")
COMPETITORS = ("text", "letter", "logits", "calibrated")  # of a cache, on the same axis
CONTROLS = ("matched", "deranged", "zero")


@dataclass(frozen=True)
class Channel:
    """Selector and codec. Keeping everything or nothing has no order: it is written as `front`."""

    codec: str
    keep_ratio: float = 1.0
    order: str = "front"
    calibration: str = ""  # sha256 (hex) of the artifact, for a codec that needs one

    def __post_init__(self) -> None:
        codec(self.codec)
        if self.calibration and not needs_calibration(self.codec):
            raise LatentWireError(f"codec {self.codec} takes no calibration")
        if not 0 <= self.keep_ratio <= 1:
            raise LatentWireError(f"keep_ratio must be between 0 and 1, not {self.keep_ratio}")
        if self.order not in ORDERS:
            raise LatentWireError(f"order must be one of {', '.join(ORDERS)}, not {self.order!r}")
        # 1 and 1.0 are one channel, and so are 0.0 and -0.0: one spelling, one fingerprint.
        object.__setattr__(self, "keep_ratio", float(self.keep_ratio) + 0.0)
        object.__setattr__(self, "order", order_of(self.keep_ratio, self.order))


def order_of(keep_ratio: float, order: str) -> str:
    """Which end is kept. Of all or nothing there is no end: it is written as `front`, so that what
    is one condition has one name."""
    return "front" if keep_ratio in (0, 1) else order


@dataclass(frozen=True)
class Message:
    """What the sharer writes to the receiver, and how it is sent."""

    codec: str  # one of TEXT_CODECS
    tokens: int  # at most that many are written

    def __post_init__(self) -> None:
        if self.codec not in TEXT_CODECS:
            raise LatentWireError(
                f"a message's codec is one of {', '.join(TEXT_CODECS)}, not {self.codec!r}"
            )
        if self.tokens < 1:
            raise LatentWireError(f"message_tokens must be 1 or more, not {self.tokens}")


@dataclass(frozen=True)
class Condition:
    """Who answers, and what is sent: a cache for c2c, a message for text."""

    system: str
    channel: Channel | None = None
    control: str = "none"  # matched, deranged or zero; none where nothing is sent
    message: Message | None = None

    def __post_init__(self) -> None:
        is_c2c = self.system == "c2c"
        assert self.system in SYSTEMS
        assert (self.channel is not None) == is_c2c
        assert (self.message is not None) == (self.system == "text")
        if is_c2c:
            assert self.control in CONTROLS
        elif self.system in ("text", "letter", "logits"):
            assert self.control in ("matched", "deranged")  # there are no zeros of a text
        else:
            assert self.control == "none"

    def params(self) -> dict[str, str]:
        """The names that users filter by, the same at every level of runs."""
        channel, message = self.channel, self.message
        sent = channel or message
        return {
            "system": self.system,
            "codec": sent.codec if sent else "none",
            "kv_bits": bits_label(channel.codec) if channel else "none",
            "keep_ratio": str(channel.keep_ratio) if channel else "none",
            "order": channel.order if channel else "none",
            "control": self.control,
            "calibration": (channel.calibration if channel else "") or "none",
            "message_tokens": str(message.tokens) if message else "none",
        }

    @property
    def label(self) -> str:
        """Short and readable, for run names and progress bars."""
        if self.message is not None:
            return f"text {self.message.codec} {self.message.tokens} tokens {self.control}"
        if self.system in ("letter", "logits"):
            return f"{self.system} {self.control}"
        if self.system == "calibrated":
            return "receiver calibrated"
        if self.channel is None:
            return f"{self.system} alone"
        kept = (
            "full"
            if self.channel.keep_ratio == 1
            else (f"{self.channel.keep_ratio:g} {self.channel.order}")
        )
        return f"c2c {self.channel.codec} {kept} {self.control}"


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
    seed: int  # of the derangement
    max_new_tokens: int = MAX_NEW_TOKENS

    def identity(self) -> str:
        """Names everything that is the same for all points of one curve, over all datasets."""
        common = asdict(self)
        for name in ("dataset", "dataset_hash"):
            del common[name]
        # What a task declares is one dataset's: it stands in the fingerprints alone.
        common |= {"prompt_version": PROMPT_VERSION, "max_new_tokens": MAX_NEW_TOKENS}
        return _sha256({**common, **_PROTOCOL})

    def condition_fingerprint(self, condition: Condition) -> str:
        """Identifies a condition, whatever the chunks it is computed in."""
        content = asdict(condition)
        if condition.channel and not condition.channel.calibration:
            del content["channel"]["calibration"]  # nothing that could matter
        if condition.message is None:
            del content["message"]
        if condition.system in COMPETITORS:
            content["message_version"] = MESSAGE_VERSION
        return _sha256({**asdict(self), **_PROTOCOL, "condition": content})

    def chunk_fingerprint(self, condition: Condition, start: int, stop: int) -> str:
        """Identifies one chunk (examples start to stop, in dataset order) of a condition."""
        return _sha256(
            {"condition": self.condition_fingerprint(condition), "start": start, "stop": stop}
        )


_PROTOCOL = {
    "evaluation_version": EVALUATION_VERSION,
    "decoding": "greedy",
}


def _sha256(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
