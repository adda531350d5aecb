"""The baseline that needs no model, in words: what the spread of the keys alone gives."""

import math

import pandas as pd

from latentwire.analysis.formatting import percent
from latentwire.analysis.frames import records

FEW = 100  # questions, below which halves of them say little of each other's keys


def commonest_key(rows: pd.DataFrame) -> str | None:
    """What always answering the commonest key scores, for rows of one dataset, by the row that has
    most questions; None where that is not known.

    It is the commonest key of the other half of the questions, so that none helps to choose its own
    answer. Of few questions the halves differ by chance (keys A, B, A: the rule is never right),
    so there the plain share is said, which is a little too high.
    """
    if rows.empty:
        return None
    row = records(rows)[int(rows["examples"].to_numpy().argmax())]
    plain, prior = float(row["commonest_key_share"]), float(row["letter_prior_accuracy"])
    if row["examples"] < FEW and not math.isnan(plain):
        return f"the commonest key is that of {percent(plain)} % of these questions"
    if math.isnan(prior):
        return None
    return f"always the commonest key (of the other half of the questions): {percent(prior)} %"
