"""The figures that the pair's README shows for a question set."""

from itertools import pairwise

from latentwire.analysis.stats import mcnemar_p, paired_outcomes
from tools.demo_pair.measure import (
    Condition,
    Letters,
    LivePair,
    Questions,
    alone,
    fused,
    per_cent,
)
from tools.demo_pair.outlier_search import PRECISIONS

KEEP_RATIOS = (0.75, 0.5, 0.25, 0.1)
ORDERS = ("front", "back")


def measure_set(pair: LivePair, questions: Questions) -> dict[str, float]:
    """Accuracies in per cent, and McNemar's p for each step down in precision."""

    def correct(letters: Letters) -> dict[str, bool]:
        pairs = enumerate(zip(letters, questions.keys, strict=True))
        return {str(number): letter == key for number, (letter, key) in pairs}

    figures = {"questions": float(len(questions.keys))}
    for name, model in (("receiver", pair.receiver), ("sharer", pair.sharer)):
        figures[name] = per_cent(alone(pair.tokenizer, model, questions), questions.keys)
    figures["c2c"] = per_cent(fused(pair, questions, Condition()), questions.keys)
    deranged = fused(pair, questions, Condition(control="deranged"))
    figures["deranged"] = per_cent(deranged, questions.keys)
    figures["deranged_follows_other"] = per_cent(deranged, questions.other_keys)
    zero = fused(pair, questions, Condition(control="zero"))
    figures["zero"] = per_cent(zero, questions.keys)
    by_bits = {bits: fused(pair, questions, Condition(bits=bits)) for bits in PRECISIONS}
    for bits, letters in by_bits.items():
        figures[f"int{bits}"] = per_cent(letters, questions.keys)
    for high, low in pairwise(PRECISIONS):
        figures[f"mcnemar_p_int{high}_int{low}"] = mcnemar_p(
            paired_outcomes(correct(by_bits[high]), correct(by_bits[low]))
        )
    for order in ORDERS:
        for ratio in KEEP_RATIOS:
            letters = fused(pair, questions, Condition(bits=8, keep_ratio=ratio, order=order))
            figures[f"int8_{order}_{ratio:g}"] = per_cent(letters, questions.keys)
    return figures
