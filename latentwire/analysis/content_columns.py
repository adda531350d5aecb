"""Did the content of the message reach the answer? Columns of one row, from its answers to the own
message and to other questions' messages.

`influence` asks whether answers change, `follows_donor` and `bits_communicated` whether they tell
what the donor's key is. None of them asks whether they became better: that is the pairing gain.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentwire.analysis.donors import Answers, DonorAnswers
from latentwire.analysis.estimates import NOTHING, Estimate, of_mean, of_resampled_share, of_share
from latentwire.analysis.letter_distribution import ratio
from latentwire.analysis.randomization import dealt_anew, drawn_p, generator
from latentwire.analysis.reproduction.agreement import RUN_TO_RUN_SHARE
from latentwire.analysis.stats import is_plain, scored
from latentwire.analysis.unanswered import answered
from latentwire.evaluation.record import Record
from latentwire.tasks.task import Task

ESTIMATES = ("influence", "follows_donor", "bits_communicated")


def content_columns(own: Answers, lent: DonorAnswers, task: Task) -> dict[str, Any]:
    """The columns of ESTIMATES with intervals and p-values, and what belongs to them.

    Keys are known to answers only where a task has options; elsewhere `follows_donor` and
    `bits_communicated` are empty.
    """
    pairs = pairs_of(lent) if task.has_options else []
    communicated = bits_communicated(pairs)
    donors = [
        record
        for each in lent.answered
        for record in each.values()
        if record.donor_answer is not None
    ]
    bytes_mean = ratio(sum(record.wire_bytes for record in donors), len(donors))
    following = sum(task.is_correct(str(each.donor_answer), each.predicted) for each in donors)
    return {
        "follows_donor_share": ratio(following, len(donors)),
        **influence(own, lent).columns("influence"),
        **follows_donor(pairs).columns("follows_donor"),
        **communicated.columns("bits_communicated"),
        "bits_per_byte": communicated.value / bytes_mean if bytes_mean else float("nan"),
        "key_collisions": sum(collides(record) for record in donors),
    }


def collides(record: Record) -> bool:
    """Whether the donor's key is the question's own: following either is being right."""
    return record.donor_answer is not None and record.donor_answer == record.answer


def influence(own: Answers, lent: DonorAnswers) -> Estimate:
    """The share of answers that are others with another question's message, of the questions that
    both could answer; tested against what two runs of one system differ in."""
    mine = answered(own)

    def changed(record: Record) -> float | None:
        known = mine.get(record.example_id)
        return None if known is None else float(known.predicted != record.predicted)

    scores = lent.means(changed)
    if len(lent.by_donor) < 2 and is_plain(scores):
        return of_share(int(sum(scores.values())), len(scores), RUN_TO_RUN_SHARE)
    return of_resampled_share(scores, RUN_TO_RUN_SHARE)


class Pair(NamedTuple):
    """A question with another's message: the donor's key and what was answered."""

    name: str
    cluster: str | None
    donor: int
    own_key: str
    key: str
    answer: str  # "" for an output that yields none


def pairs_of(lent: DonorAnswers) -> list[Pair]:
    """Donors' keys and answers, of all questions that have both."""
    return [
        Pair(
            record.example_id,
            record.cluster,
            donor,
            record.answer,
            record.donor_answer,
            record.predicted or "",
        )
        for donor, each in enumerate(lent.answered)
        for record in each.values()
        if record.donor_answer is not None
    ]


def follows_donor(pairs: Sequence[Pair]) -> Estimate:
    """By how much more often answers are the donor's key than by chance, where it is not the own.

    Chance is what the same answers would be, were the donors' keys dealt anew among the questions
    that have the same own key. So neither a receiver that prefers a letter nor one that knows the
    own key counts, whatever its accuracy. (Answers of the receiver alone, or of the own message,
    are no such yardstick: they are right more often, so they are the donor's key less often.)
    """
    strata: dict[tuple[int, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.key != pair.own_key:
            strata[pair.donor, pair.own_key].append(pair)
    scores, drawn, matches = _Scores(), np.zeros(1), 0
    draw = generator()
    for members in strata.values():
        table = _Table(members, matching=True)
        same = np.array([[answer == key for key in table.keys] for answer in table.answers])
        drawn = drawn + (dealt_anew(table.counts, draw) * same).sum(axis=(1, 2))
        matches += int((table.counts * same).sum())
        share = table.counts / len(members)
        # What the other donors of an answer, and the other answers to a donor, would match.
        of_answer = (same * share.sum(axis=0)).sum(axis=1)
        of_key = (same * share.sum(axis=1)[:, None]).sum(axis=0)
        expected = of_answer @ share.sum(axis=1)
        scores.add(members, table, same - of_answer[:, None] - of_key + expected)
    if not scores:
        return NOTHING
    return of_mean(scores.means(), 1.0, drawn_p(matches, drawn, two_sided=True))


def bits_communicated(pairs: Sequence[Pair]) -> Estimate:
    """The mutual information of the donor's key and the answer, in bits a question.

    A question's part of it is its pointwise mutual information. As counted, it is too large by what
    independent answers would seem to tell: the mean over tables with the same sums, which is taken
    off (as the shuffled estimate in S. Panzeri et al., Journal of Neurophysiology 98, 2007). p:
    the share of these tables that tell as much.
    """
    by_donor: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_donor[pair.donor].append(pair)
    scores, drawn, told = _Scores(), np.zeros(1), 0.0
    draw = generator()
    for members in by_donor.values():
        table = _Table(members)
        counts = table.counts
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(members)
        pointwise = _log2(counts / expected)
        scores.add(members, table, pointwise)
        told += float((counts * pointwise).sum())
        drawn = drawn + _told(dealt_anew(counts, draw), float((expected * _log2(expected)).sum()))
    if not scores:
        return NOTHING
    symbols = len({pair.key for pair in pairs} | {pair.answer for pair in pairs})
    most = float(np.log2(max(2, symbols)))
    p, bias = drawn_p(told, drawn, two_sided=False), float(drawn.mean()) / len(pairs)
    return of_mean(scores.means(), most, p, bias=bias, signed=False)


def _told(tables: NDArray[np.int64], expected: float) -> NDArray[np.float64]:
    """Mutual information times the number of pairs, in bits, of tables with the same sums:
    sum of c log2 c over their cells, less the same of what independence expects of them."""
    known = np.arange(int(tables.max(initial=0)) + 1, dtype=float)
    return np.asarray((known * _log2(known))[tables].sum(axis=(1, 2)) - expected)


def _log2(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log2(np.where(values > 0, values, 1.0))


class _Table:
    """How often each answer went with each donor's key."""

    counts: NDArray[np.int64]  # [answers, keys]

    def __init__(self, pairs: Sequence[Pair], matching: bool = False) -> None:
        """With `matching`, all answers that are nobody's key are one."""
        self.keys = sorted({pair.key for pair in pairs})
        said = [pair.answer for pair in pairs]
        if matching:
            said = [answer if answer in self.keys else "" for answer in said]
        self.answers = sorted(set(said))
        row, column = (
            {name: n for n, name in enumerate(names)} for names in (self.answers, self.keys)
        )
        self.places = [row[answer] for answer in said], [column[pair.key] for pair in pairs]
        self.counts = np.zeros((len(self.answers), len(self.keys)), np.int64)
        np.add.at(self.counts, self.places, 1)


class _Scores:
    """Numbers of pairs of question and donor, by question."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = defaultdict(list)
        self._clusters: dict[str, str | None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, pairs: Sequence[Pair], table: _Table, values: NDArray[np.float64]) -> None:
        """A number for each answer and key of a table of the pairs."""
        for pair, value in zip(pairs, values[table.places].tolist(), strict=True):
            self._found[pair.name].append(value)
            self._clusters[pair.name] = pair.cluster

    def means(self) -> dict[str, float]:
        """The mean over a question's donors."""
        return {
            name: scored(sum(values) / len(values), self._clusters[name])
            for name, values in self._found.items()
        }
