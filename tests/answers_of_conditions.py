"""The published per-question answers, read without the code under test."""

from pathlib import Path

import pandas as pd


def by_question(path: Path, dataset: str, scheme: str, ratio: float, order: str) -> dict[str, bool]:
    table = pd.read_csv(path)
    rows = table[
        (table["dataset"] == dataset)
        & (table["scheme"] == scheme)
        & (table["cache_proportion"] == ratio)
        & (table["order_mode"] == order)
    ]
    return {
        str(index): bool(correct)
        for index, correct in zip(rows["question_index"], rows["correct"], strict=True)
    }
