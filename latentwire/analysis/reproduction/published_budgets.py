"""The published study's budgets, as shares of what travels.

The study labelled its budgets as shares of a cache that it counted as the receiver's: against the
sharer's, which is what travels, they are 8.5 times too generous, so that its 1/8 is all of that
cache in 8 bits.
"""

from pathlib import Path

import pandas as pd

from latentwire.parameters import share

TOO_GENEROUS = 8.5  # the study's budgets, over what their labels say of the sharer's cache in int8
# Accuracies of `rd_greedy` by the study's labels: int8 or nothing by scores of the receiver's side.
PUBLISHED = Path(__file__).parent / "latentwire_2026_02_budgets.csv"


def study_table() -> pd.DataFrame:
    """The published budgets: label, share of the sharer's 16 bits (at most all of it in int8), and
    accuracy, by question set."""
    table = pd.read_csv(PUBLISHED, dtype={"label": str})
    labels = table["label"].map(share)
    table.insert(1, "share_of_16_bits", (TOO_GENEROUS * labels).clip(upper=1) / 2)
    return table
