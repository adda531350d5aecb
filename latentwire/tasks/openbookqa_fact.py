"""OpenBookQA, test split, with the fact that each question was written from (config `additional`).
The sharer alone reads the fact, the receiver the question."""

from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Expected, HubSplit

_TEST = Expected(500, 500, "6d976ded570d494ce82a05ee37ce763fa2bea7185c8b25c112c67730220ff113")
_TRAINING = Expected(4957, 4957, "d94543036956169fd7224bc7134f2bc1e80bd634b43b50b6ce003dfcf02ad7d4")
_VALIDATION = Expected(500, 500, "bf1ad7d3f660e67cfd922a2fd1ca1f64cd3b102ad3d1e44a2fa1cb61e184c395")
_HUB = ("allenai/openbookqa", "additional")
_FOLDER = "openbookqa_additional"


TASK = MultipleChoice(
    name="openbookqa_fact",
    question_field="question_stem",
    evidence_field="fact1",
    test=HubSplit(*_HUB, "test", f"{_FOLDER}/test.jsonl", _TEST),
    training=HubSplit(*_HUB, "train", f"{_FOLDER}/train.jsonl", _TRAINING),
    validation=HubSplit(*_HUB, "validation", f"{_FOLDER}/validation.jsonl", _VALIDATION),
)
