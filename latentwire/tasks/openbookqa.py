"""OpenBookQA, test split: elementary science facts, four choices (Mihaylov et al., EMNLP 2018)."""

from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Expected, HubSplit

_TEST = Expected(500, 500, "a6dd64492f9479e34d82070fec590e9e4a640d81db42d94fc99b575af0710e4a")
_TRAINING = Expected(4957, 4957, "7299345d089ecc449ed1766e4a7d502ce1bdc8f9036a146e216363a17f305a9f")
_VALIDATION = Expected(500, 500, "04e072352419212ad24f3728f5326c210918cd1f61182614d5a1750d04763940")
_HUB = ("allenai/openbookqa", "main")

TASK = MultipleChoice(
    name="openbookqa",
    question_field="question_stem",
    test=HubSplit(*_HUB, "test", "openbookqa/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "train", "openbookqa/train.jsonl", _TRAINING),
    validation=HubSplit(*_HUB, "validation", "openbookqa/validation.jsonl", _VALIDATION),
)
