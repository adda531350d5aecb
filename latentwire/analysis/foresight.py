"""What the receiver's knowledge would buy: an oracle's choice of tokens against a sender's.

Question by question, at equal numbers of tokens or within one budget: the difference of scores, its
95 % interval and the test of no difference (see `noninferiority` and `paired_scores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from latentwire.analysis.noninferiority import difference_interval, equal_p
from latentwire.analysis.paired_scores import compare
from latentwire.analysis.stats import Outcomes, holm
from latentwire.spec.axes import is_oracle

COLUMNS = (
    *("dataset", "codec", "keep_ratio", "budget_bytes", "selector", "oracle", "examples"),
    *("selector_wire_bytes_mean", "oracle_wire_bytes_mean", "gain", "gain_low", "gain_high"),
    *("p", "p_holm"),
)


@dataclass(frozen=True)
class Choice:
    """One choice of tokens, its own messages sent, and what the questions came to."""

    codec: str
    keep_ratio: float
    budget_bytes: int | None  # None: no budget
    order: str
    wire_bytes_mean: float
    outcomes: Outcomes

    @property
    def within(self) -> tuple[str, float, int | None]:
        """What choices have in common that are compared."""
        return self.codec, self.keep_ratio, self.budget_bytes


def foresight_table(dataset: str, choices: Sequence[Choice]) -> pd.DataFrame:
    """A row for each oracle and selector of one codec, keep ratio and budget. `gain` is the
    oracle's mean score minus the selector's, a share; `p_holm` is corrected over the dataset's
    rows."""
    oracles = [choice for choice in choices if is_oracle(choice.order)]
    pairs = [
        (oracle, selector)
        for selector in choices
        for oracle in oracles
        if not is_oracle(selector.order) and oracle.within == selector.within
    ]
    paired = [compare(oracle.outcomes, selector.outcomes) for oracle, selector in pairs]
    p_values = [equal_p(outcomes) for outcomes in paired]
    rows = [
        (
            *(dataset, *oracle.within, selector.order, oracle.order),
            *(outcomes.examples, selector.wire_bytes_mean, oracle.wire_bytes_mean),
            *(outcomes.difference, *difference_interval(outcomes), p, p_holm),
        )
        for (oracle, selector), outcomes, p, p_holm in zip(
            pairs, paired, p_values, holm(p_values), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"budget_bytes": "Int64"})
