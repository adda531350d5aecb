"""The pairing gain of one way to train, over its trainings of several seeds: what another training
would give, on other questions."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from latentwire.analysis.curve import ConditionResult, lent_of, merged, outcomes
from latentwire.analysis.estimates import of_difference
from latentwire.analysis.formatting import interval, p_value, percent
from latentwire.analysis.frames import records
from latentwire.analysis.letter_distribution import ratio
from latentwire.analysis.paired_scores import compare, mean_over_donors
from latentwire.analysis.seeds_and_questions import compare_seeds
from latentwire.analysis.stats import Outcomes, holm
from latentwire.analysis.trained_pairs import without_seed
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.spec.axes import sort_key
from latentwire.spec.names import condition_name

POOLED_FILE = "seeds.csv"
_GAIN = "pairing_gain"
COLUMNS = (
    *("pair", "dataset", "source", "condition", "seeds", "examples", "score"),
    *(f"{_GAIN}{end}" for end in ("", "_low", "_high", "_p", "_p_holm", "_min", "_max")),
)
_Answers = tuple[Outcomes, Outcomes]  # to the own messages, and the mean over donors


def pooled_table(results: Sequence[ConditionResult]) -> pd.DataFrame:
    """COLUMNS of every condition that several seeds of one training (pairs NAME+seedN) have asked
    of all questions, with the own messages and with others'; `pair` is the name without the seed.

    A calibration is of one seed's training, as its weights are: conditions that differ by it alone
    are pooled. A seed with several such calibrations is left out: which one counts is not known.
    Interval and p are of `seeds_and_questions`; p is corrected over a pair and dataset.
    """
    places: dict[tuple[Any, ...], dict[str, list[ConditionResult]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for part in results:
        if training := without_seed(part.pair):
            place = replace(part, calibration=None).place
            places[training, part.dataset, part.source, *place][part.pair].append(part)
    by_family: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for (training, dataset, source, *_), by_pair in sorted(
        places.items(), key=lambda item: (*item[0][:3], *sort_key(vars(_any(item[1]))))
    ):
        answers = [found for parts in by_pair.values() if (found := _of_seed(parts))]
        if len(answers) > 1 and (row := _row(answers))["examples"]:
            named = {"pair": training, "dataset": dataset, "source": source}
            condition = {"condition": condition_name(vars(_any(by_pair)) | {"control": MATCHED})}
            by_family[training, dataset, source].append(named | condition | row)
    rows = []
    for family in by_family.values():
        adjusted = holm([row[f"{_GAIN}_p"] for row in family])
        rows += [row | {f"{_GAIN}_p_holm": p} for row, p in zip(family, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sentences(table: pd.DataFrame) -> Iterator[str]:
    """One a pair and dataset, of its first row: the whole cache in most bits."""
    for row in records(table.drop_duplicates(["pair", "dataset", "source"])):
        gain = percent(row[_GAIN], signed=True)
        ends = interval(row[f"{_GAIN}_low"], row[f"{_GAIN}_high"], signed=True)
        least, most = (percent(row[f"{_GAIN}_{end}"], signed=True) for end in ("min", "max"))
        yield (
            f"{row['dataset']}, {row['pair']}, {row['condition']}: over {row['seeds']} trainings of"
            f" other seeds and {row['examples']} questions at once, the pairing gain is {gain}"
            f" points {ends}, p {p_value(row[f'{_GAIN}_p_holm'])}; by seed {least}"
            f" to {most} ({POOLED_FILE} has the others)."
        )


def _any(by_pair: Mapping[str, Sequence[ConditionResult]]) -> ConditionResult:
    return next(iter(by_pair.values()))[0]


def _of_seed(parts: Sequence[ConditionResult]) -> _Answers | None:
    """One seed's answers; None unless they are whole under one calibration, or without any."""
    found = [
        answers
        for calibration in dict.fromkeys(part.calibration for part in parts)
        if (answers := _answers([part for part in parts if part.calibration == calibration]))
    ]
    return found[0] if len(found) == 1 else None


def _answers(parts: Sequence[ConditionResult]) -> _Answers | None:
    """Of one condition; None unless all questions were asked both ways."""
    own = merged(str(parts[0]), [part for part in parts if part.control == MATCHED])
    lent = lent_of([part for part in parts if part.control == DERANGED], own)
    if not own or min(len(own), lent.examples) < parts[0].examples_total:
        return None
    return outcomes(own), mean_over_donors([outcomes(each) for each in lent.answered])


def _row(seeds: Sequence[_Answers]) -> dict[str, Any]:
    pooled = compare_seeds([own for own, _ in seeds], [lent for _, lent in seeds])
    gains = [compare(*each).difference for each in seeds]
    scores = [float(score) for own, _ in seeds for score in own.values()]
    return {
        "seeds": len(seeds),
        "examples": pooled.examples,
        "score": ratio(sum(scores), len(scores)),
        **of_difference(pooled).columns(_GAIN),
        f"{_GAIN}_min": min(gains),
        f"{_GAIN}_max": max(gains),
    }
