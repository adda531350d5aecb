"""Columns of the budget curve that compare conditions: the gains, and what compression cost.

Each function takes one family of points, over which p-values are corrected. An interval is that of
the tests beside it, uncorrected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latentwire.analysis import content_columns
from latentwire.analysis.donors import DonorAnswers
from latentwire.analysis.estimates import of_difference
from latentwire.analysis.noninferiority import (
    difference_interval,
    equal_p,
    margin_test,
    required_sample_size,
)
from latentwire.analysis.paired_scores import (
    Paired,
    compare,
    compare_with_donors,
    mean_over_donors,
    own_rank_p,
)
from latentwire.analysis.stats import Outcomes, holm

# Estimates that each row has; where it has a p-value, that is corrected over its family.
BY_RECEIVER = ("gain_over_receiver", "harm")
BY_DONOR = ("pairing_gain_distinct_keys", *content_columns.ESTIMATES, "key_logprob_gain")


def pairing_columns(points: Sequence[tuple[Outcomes, Sequence[Outcomes]]]) -> list[dict[str, Any]]:
    """Of each point's outcomes with the own cache and with another question's, by donor, what
    `pairing_*` and `own_rank_p` say; empty outcomes where a control was not run."""
    paired = [compare_with_donors(matched, deranged) for matched, deranged in points]
    p_values = [_known(outcomes, equal_p(outcomes)) for outcomes in paired]
    ranks = [own_rank_p(matched, deranged) for matched, deranged in points]
    return [
        {
            "pairing_examples": outcomes.examples,
            **_difference("pairing_gain", outcomes),
            "pairing_p": p,
            "pairing_p_holm": p_holm,
            "own_rank_p": rank,
            "own_rank_p_holm": rank_holm,
        }
        for outcomes, p, p_holm, rank, rank_holm in zip(
            paired, p_values, _holm(p_values), ranks, _holm(ranks), strict=True
        )
    ]


def distinct_keys_columns(
    own: Outcomes, deranged: Sequence[Outcomes], lent: DonorAnswers
) -> dict[str, Any]:
    """The pairing gain without the donors whose key is the question's own. `deranged` are the
    outcomes of `lent.answered`."""
    others = [
        {name: score for name, score in each.items() if not content_columns.collides(records[name])}
        for each, records in zip(deranged, lent.answered, strict=True)
    ]
    compared = compare_with_donors(own, others)
    return of_difference(compared).columns("pairing_gain_distinct_keys")


def receiver_columns(
    own: Outcomes, deranged: Sequence[Outcomes], alone: Outcomes
) -> dict[str, Any]:
    """Of a point against the receiver alone: what its own message adds, and what another question's
    takes away. `alone` and `deranged` have no questions that could not be answered."""
    gain = compare(own, alone)
    harm = compare(alone, mean_over_donors(deranged))
    return {
        "receiver_examples": gain.examples,
        **of_difference(gain).columns("gain_over_receiver"),
        **of_difference(harm).columns("harm"),
    }


def corrected(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The p-values of some estimates, corrected over the rows that have one."""
    columns = {name: _holm([row[f"{name}_p"] for row in rows]) for name in names}
    return [
        {f"{name}_p_holm": adjusted[place] for name, adjusted in columns.items()}
        for place in range(len(rows))
    ]


def reference_columns(
    points: Sequence[Outcomes], reference: Outcomes, margin_points: float
) -> list[dict[str, Any]]:
    """Of each point against the same questions sent whole in 16 bits, what `bf16_*` says.

    Give empty outcomes for a point that is not to be compared (the reference itself, a model
    alone); it does not count in the family.
    """
    paired = [compare(point, reference) for point in points]
    margin = margin_points / 100
    findings = [margin_test(outcomes, "non_inferior", margin) for outcomes in paired]
    equal = [_known(outcomes, equal_p(outcomes)) for outcomes in paired]
    worse = [
        _known(outcomes, finding.p) for outcomes, finding in zip(paired, findings, strict=True)
    ]
    return [
        {
            "bf16_examples": outcomes.examples,
            "bf16_differing": outcomes.differing,
            **_difference("bf16_difference", outcomes),
            "bf16_p": p,
            "bf16_p_holm": p_holm,
            "margin_points": margin_points,
            "non_inferior_p": finding.p if p is not None else None,
            "non_inferior_p_holm": margin_p,
            "non_inferior": None if margin_p is None else finding.verdict(margin_p),
            "questions_needed": required_sample_size(outcomes, "non_inferior", margin),
        }
        for outcomes, p, p_holm, finding, margin_p in zip(
            paired, equal, _holm(equal), findings, _holm(worse), strict=True
        )
    ]


def _difference(name: str, outcomes: Paired) -> dict[str, float]:
    low, high = difference_interval(outcomes)
    return {name: outcomes.difference, f"{name}_low": low, f"{name}_high": high}


def _known(outcomes: Paired, p: float) -> float | None:
    """A p-value of no questions is none."""
    return p if outcomes.examples else None


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the p-values that are there."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]
