"""Donors whose prompt is longer or shorter than the question's own.

Where messages are merged token by token, such a donor's loses its front or is filled up there
(`places`), so its keys stand where no training put them: it is no other content alone, and is left
out of what is paired.
"""

from collections.abc import Mapping
from dataclasses import replace

from latentwire.evaluation.record import Record


def with_lengths(own: Mapping[str, Record], lent: Mapping[str, Record]) -> dict[str, Record]:
    """A condition's answers to another's cache, by example id, all with `donor_tokens` where the
    message was brought to another length. Records of earlier versions do not say it: it is known of
    theirs where the donor was asked with its `own` message too."""
    return {name: _told(own, name, record) for name, record in lent.items()}


def _told(own: Mapping[str, Record], name: str, record: Record) -> Record:
    donor, asked = own.get(record.donor_id or ""), own.get(name)
    if donor is None or asked is None or record.donor_tokens is not None:
        return record
    other = donor.prompt_tokens != record.prompt_tokens
    # A message that is inserted keeps its length, and has as many numbers as its donor's own.
    inserted = record.cluster is not None or record.elements != asked.elements
    return replace(record, donor_tokens=donor.prompt_tokens) if other and not inserted else record
