"""The answers that one condition gave to other questions' messages, of one donor or of several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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

    `own` are the answers to the own messages of the same condition; where they are not there,
    records of earlier versions do not tell a donor's length (`with_lengths`). `merges`: whether the
    message is a cache, which is brought to the question's length.
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


def with_lengths(own: Answers, lent: Answers) -> dict[str, Record]:
    """A condition's answers to another's cache, by example id, all with `donor_tokens` where the
    message was brought to another length.

    Where messages are merged token by token, one of a longer or shorter prompt loses its front or
    is filled up there (`places`), so its keys stand where no training put them: it is no other
    content alone, and is left out of what is paired. Records of earlier versions do not say it: it
    is known of theirs where the donor was asked with its `own` message too.
    """
    return {name: _told(own, name, record) for name, record in lent.items()}


def _told(own: Answers, name: str, record: Record) -> Record:
    donor, asked = own.get(record.donor_id or ""), own.get(name)
    if donor is None or asked is None or record.donor_tokens is not None:
        return record
    other = donor.prompt_tokens != record.prompt_tokens
    # A message that is inserted keeps its length, and has as many numbers as its donor's own.
    inserted = record.cluster is not None or record.elements != asked.elements
    return replace(record, donor_tokens=donor.prompt_tokens) if other and not inserted else record


def _is_own(name: str, record: Record, own: Answers) -> bool:
    """Whether the donor is the question itself, or one on its evidence."""
    donor = own.get(record.donor_id or "")
    shares = donor is not None and record.cluster is not None and donor.cluster == record.cluster
    return record.donor_id == name or shares
