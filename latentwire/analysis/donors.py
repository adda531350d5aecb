"""The answers that one condition gave to other questions' messages, of one donor or of several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from latentwire.analysis.donor_lengths import with_lengths
from latentwire.analysis.paired_scores import mean_over_donors
from latentwire.analysis.stats import Outcomes, scored
from latentwire.analysis.unanswered import answered
from latentwire.evaluation.record import Record

Answers = Mapping[str, Record]  # by example id


@dataclass(frozen=True)
class DonorAnswers:
    """A question's answers under the control `deranged`, a donor each."""

    by_donor: Sequence[Answers]  # those that count, in the order of the donors' numbers

    @property
    def every(self) -> list[Record]:
        """All of them, whatever the donor."""
        return [record for each in self.by_donor for record in each.values()]

    @property
    def examples(self) -> int:
        """Questions that were asked with each donor."""
        return len(self.by_donor[0]) if self.by_donor else 0

    @property
    def answered(self) -> list[Answers]:
        """By donor, without the questions that could not be answered with its message."""
        return [answered(each) for each in self.by_donor]

    def means(self, score: Callable[[Record], float | None]) -> Outcomes:
        """Of each question that could be answered, the mean over its donors of a number; without
        those of which there is none."""
        return mean_over_donors(
            [
                {
                    name: scored(value, record.cluster)
                    for name, record in each.items()
                    if (value := score(record)) is not None
                }
                for each in self.answered
            ]
        )


def lent_answers(by_number: Mapping[int, Answers], own: Answers, *, merges: bool) -> DonorAnswers:
    """The answers to other questions' messages that count, wherever they are compared: of donors
    those that were asked all that any was, for a trial run of one more donor makes no mean over
    some questions only. In a set of one question, or on one evidence alone, the message was the own
    one all the same (`derange`): it is none of another question.

    Args:
        by_number: a donor's number -> its answers.
        own: those to the own messages of the same condition; where they are not there, records of
            earlier versions do not tell a donor's length (`with_lengths`).
        merges: whether the message is a cache, which is brought to the question's length.
    """
    by_number = {
        number: {name: record for name, record in found.items() if not _is_own(name, record, own)}
        for number, found in by_number.items()
    }
    if merges:
        by_number = {number: with_lengths(own, found) for number, found in by_number.items()}
    most = max(map(len, by_number.values()), default=0)
    return DonorAnswers(
        [answers for _, answers in sorted(by_number.items()) if answers and len(answers) == most]
    )


def _is_own(name: str, record: Record, own: Answers) -> bool:
    """Whether the donor is the question itself, or one on its evidence."""
    donor = own.get(record.donor_id or "")
    shares = donor is not None and record.cluster is not None and donor.cluster == record.cluster
    return record.donor_id == name or shares
