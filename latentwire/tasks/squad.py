"""SQuAD 1.1, validation split (Rajpurkar et al., EMNLP 2016).

The sharer alone reads the passage.
"""

from latentwire.tasks.extractive import Extractive
from latentwire.tasks.rows import Expected, HubSplit

_HUB = ("rajpurkar/squad", "plain_text")

TASK = Extractive(
    name="squad",
    test=HubSplit(*_HUB, "validation", "squad/validation.jsonl", Expected(10570, 10570)),
    training=HubSplit(*_HUB, "train", "squad/train.jsonl"),
)
