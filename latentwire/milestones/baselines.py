"""Baselines: what do a text, a letter and four numbers score on the same axis of bytes?

The sharer's message in at most so many tokens (of evidence that it alone has read: that evidence,
and a summary of it), its answer's letter (1 byte), its log-probabilities of the options (8 bytes);
and the receiver alone with its letter prior taken off (no bytes).
"""

from latentwire.parameters import CONTROLS_WRITTEN, DONORS, MESSAGE_TOKENS, STUDY, WORKERS, Values
from latentwire.spec.axes import TEXT_CODECS, TEXTS
from latentwire.spec.condition import Condition, Message

PARAMETERS = (*STUDY, WORKERS, MESSAGE_TOKENS, CONTROLS_WRITTEN, DONORS)


def conditions(values: Values) -> list[Condition]:
    """Every message as every codec sends it, the letter and the numbers, under every control."""
    messages = [Message(codec, n) for n in values["message_tokens"] for codec in TEXT_CODECS]
    return [
        Condition("calibrated"),
        *(Condition(s, control=c) for s in ("letter", "logits") for c in values["controls"]),
        *(
            Condition(s, control=c, message=m)
            for s in TEXTS
            for m in messages
            for c in values["controls"]
        ),
    ]
