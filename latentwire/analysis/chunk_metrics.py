"""The metrics that chunk runs and condition runs are logged with."""

import math
from collections.abc import Sequence

from latentwire.analysis.letter_distribution import in_format_share
from latentwire.evaluation.record import Record
from latentwire.tasks.task import Task


def chunk_metrics(records: Sequence[Record], task: Task) -> dict[str, float]:
    """The metrics that a chunk and a condition share; those of what there is nothing of are left
    out."""
    correct = sum(record.correct for record in records)
    sent = [record.wire_bytes for record in records if record.unanswered is None]
    # In this order MLflow's pages name them: a comparison of runs begins with the first.
    found: dict[str, float] = {"accuracy": correct / len(records)}
    if sent:
        found["wire_bytes_mean"] = sum(sent) / len(sent)
    found |= {"examples": len(records), "correct": correct}
    unused = [left for record in records if (left := record.unused_bytes) is not None]
    if unused:
        found["unused_bytes_mean"] = sum(unused) / len(unused)
    if len(sent) < len(records):
        found["unanswered"] = len(records) - len(sent)
    if task.metric != Task.metric or any(record.score is not None for record in records):
        found["score_mean"] = sum(record.value for record in records) / len(records)
    share = in_format_share(records, task)
    return found if math.isnan(share) else found | {"in_format_share": share}
