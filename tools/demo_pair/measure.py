"""What the pair scores, in float32, as the evaluation suite measures it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from latentwire.analysis.stats import mcnemar_p, paired_outcomes
from latentwire.evaluation.engine import evaluate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.record import Record
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import USUAL_SEED
from latentwire.tasks.dataset import parse_examples
from latentwire.tasks.demo_graded import TASK
from latentwire.tasks.question import Question, derange, tokenize


def _c2c(
    codec: str, control: str = "matched", keep_ratio: float = 1.0, order: str = ""
) -> Condition:
    return Condition(C2C, Channel(codec, keep_ratio, order), control)


PRECISIONS = {f"int{bits}": _c2c(f"int{bits}") for bits in (8, 4, 3, 2)}
WHOLE = {"c2c": _c2c("fp32")}
CONDITIONS = {
    "receiver": Condition("receiver"),
    "sharer": Condition("sharer"),
    **WHOLE,
    "deranged": _c2c("fp32", "deranged"),
    "zero": _c2c("fp32", "zero"),
    **PRECISIONS,
    **{
        f"int8_{order}_{keep_ratio:g}": _c2c("int8", keep_ratio=keep_ratio, order=order)
        for order in ("front", "back")
        for keep_ratio in (0.75, 0.5, 0.25, 0.1)
    },
}


class Asked(NamedTuple):
    """A question set, and for each question the one whose cache it gets when deranged."""

    questions: list[Question]
    donors: list[Question]


def asked(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> Asked:
    """Rows of a bundled set, ready to be asked."""
    examples = parse_examples(TASK, [(row["id"], row) for row in rows])
    questions = tokenize(TASK, examples, tokenizer)
    return Asked(questions, derange(questions, USUAL_SEED))


def measure(
    pair: LoadedPair, asked: Asked, conditions: Mapping[str, Condition] = CONDITIONS
) -> dict[str, list[Record]]:
    """What is answered under each condition, by its name."""
    found = evaluate(pair, list(conditions.values()), *asked)
    return {name: found[condition] for name, condition in conditions.items()}


def accuracy(records: Sequence[Record]) -> float:
    """In per cent."""
    return 100 * sum(record.correct for record in records) / len(records)


def figures(found: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    """What the pair's README shows of a set: accuracies, how many answers under `deranged` are the
    other question's key, both in per cent, and McNemar's p for each step down in precision."""
    named = {"questions": float(len(next(iter(found.values()))))}
    named |= {name: accuracy(records) for name, records in found.items()}
    if deranged := found.get("deranged"):
        followed = sum(record.predicted == record.donor_answer for record in deranged)
        named["deranged_follows_other"] = 100 * followed / len(deranged)
    for high, low in pairwise(name for name in PRECISIONS if name in found):
        outcomes = ({r.example_id: r.correct for r in found[name]} for name in (high, low))
        named[f"mcnemar_p_{high}_{low}"] = mcnemar_p(paired_outcomes(*outcomes))
    return named
