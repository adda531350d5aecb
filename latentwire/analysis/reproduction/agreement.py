"""Are two sets of answers those of one system? Question by question, and letter by letter.

Equal accuracies do not show it: half of the questions that one condition gets wrong may be those
that another gets right.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import binomtest, chi2_contingency

from latentwire.analysis.stats import CONFIDENCE
from latentwire.evaluation.record import Record

# Share of answers that two runs of one system may differ in: other hardware, batches or kernels
# round otherwise in 16 bits. docs/statistics.md says what is known of it.
RUN_TO_RUN_SHARE = 0.03


@dataclass(frozen=True)
class Agreement:
    """How two runs' letters compare, over the questions that both answered."""

    questions: int
    differing: int  # to which they gave different letters, or only one of them a letter
    high: float  # upper end of the one-sided 95 % interval of `share`; NaN without questions
    p: float  # of "no more than RUN_TO_RUN_SHARE differ": exact binomial test, one-sided
    letters_p: float  # of "every letter is as frequent in both"

    @property
    def share(self) -> float:
        """Share of the questions with the same letter; NaN without questions."""
        return 1 - self.differing / self.questions if self.questions else float("nan")


def agreement(own: Mapping[int, Record], published: Mapping[int, Record]) -> Agreement:
    """Compare the letters of two runs, by row of the question set."""
    common = own.keys() & published.keys()
    if not common:
        return Agreement(0, 0, float("nan"), 1.0, 1.0)
    pairs = Counter((own[index].predicted, published[index].predicted) for index in common)
    differing = sum(count for (here, there), count in pairs.items() if here != there)
    test = binomtest(differing, len(common), RUN_TO_RUN_SHARE, alternative="greater")
    # The interval of the test itself (Clopper and Pearson): p < 0.05 exactly when it ends below
    # 1 - RUN_TO_RUN_SHARE.
    most = 1 - float(test.proportion_ci(CONFIDENCE, method="exact").low)
    return Agreement(len(common), differing, most, float(test.pvalue), _letters_p(pairs))


def _letters_p(pairs: Mapping[tuple[str | None, str | None], int]) -> float:
    """Pearson's chi-square test of how often each letter (none is one too) is said in both.

    The runs count as two samples, which is conservative. A paired test would not be: where one
    letter is said nearly always, answers that change at random leave it more often than they come
    to it.
    """
    counts = [Counter[str | None](), Counter[str | None]()]
    for letters, count in pairs.items():
        for run, letter in zip(counts, letters, strict=True):
            run[letter] += count
    said = sorted(counts[0].keys() | counts[1].keys(), key=str)
    if len(said) < 2:
        return 1.0
    table = [[run[letter] for letter in said] for run in counts]
    return float(chi2_contingency(table, correction=False).pvalue)
