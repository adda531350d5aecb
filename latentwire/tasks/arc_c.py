"""ARC-Challenge, test split: grade-school science exams (Clark et al., arXiv:1803.05457).

22 of its 1172 rows have the keys 1 to 4 and are not scored. Of the 1150 others, some offer three
or five choices.
"""

from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Expected, HubSplit

_TEST = Expected(1172, 1150, "2f892252b165b22b7e9b4265544f2c2b8908ee02dafe085387ab095346a546b9")
_TRAINING = Expected(1119, 1096, "33f2505b76c2fe8c7ff3a57352c93287d5dba37c60e7d62f855b5058eb7f1738")
_VALIDATION = Expected(299, 294, "6617a80ef4898cc2a05ba382388dd3e36eff6205dd94b81a202901e3edeffb69")
_HUB = ("allenai/ai2_arc", "ARC-Challenge")

TASK = MultipleChoice(
    name="arc_c",
    test=HubSplit(*_HUB, "test", "ai2_arc/ARC-Challenge/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "train", "ai2_arc/ARC-Challenge/train.jsonl", _TRAINING),
    validation=HubSplit(*_HUB, "validation", "ai2_arc/ARC-Challenge/validation.jsonl", _VALIDATION),
)
