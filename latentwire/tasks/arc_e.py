"""ARC-Easy, test split: grade-school science exams (Clark et al., arXiv:1803.05457).

98 of its 2376 rows have the keys 1 to 4 or E and are not scored.
"""

from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Expected, HubSplit

_TEST = Expected(2376, 2278, "55ff9b36e6b0b021289b2e25b52f32ec7c13d562ba61ef8cfa61d34f84a7f327")
_TRAINING = Expected(2251, 2147, "aa7a61f73c3e4ac09241423afba10f68603ac6bf857c837fa7e58f78fe15b07d")
_VALIDATION = Expected(570, 549, "1ba13042ba2c4502b25a0628fb0a7d55f9caf30dd484d46755cbdadfb27f4526")
_HUB = ("allenai/ai2_arc", "ARC-Easy")

TASK = MultipleChoice(
    name="arc_e",
    test=HubSplit(*_HUB, "test", "ai2_arc/ARC-Easy/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "train", "ai2_arc/ARC-Easy/train.jsonl", _TRAINING),
    validation=HubSplit(*_HUB, "validation", "ai2_arc/ARC-Easy/validation.jsonl", _VALIDATION),
)
