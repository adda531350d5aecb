"""CommonsenseQA, validation split: everyday knowledge, five choices (Talmor et al., NAACL 2019).

The keys of its test split are not published, so the validation split is what everyone scores. The
prompt is the protocol's, which names the letters A to D; answers are read as A to E.
"""

from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.multiple_choice import MultipleChoice
from latentwire.tasks.rows import Expected, HubSplit

_SCORED = Expected(1221, 1221, "7b4fa6fc9ce27bb11d3028c431aa59ad784db8abf7bc85455f84d0a0f525fc70")
_TRAINING = Expected(9741, 9741, "9543ac5741c80131c6dba128b5148dee30f21a63ca8fa51463b04ce8bff00a48")
_HUB = ("tau/commonsense_qa", "default")

TASK = MultipleChoice(
    name="commonsense_qa",
    letters=LETTERS + "E",
    test=HubSplit(*_HUB, "validation", "commonsense_qa/validation.jsonl", _SCORED),
    training=HubSplit(*_HUB, "train", "commonsense_qa/train.jsonl", _TRAINING),
)
