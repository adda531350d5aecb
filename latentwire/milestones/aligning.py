"""What M7 does: the grid of alignments, and a table of what each one gives."""

from functools import partial

import pandas as pd

from c2c.paired_prompts import OFF
from latentwire.analysis.frames import records
from latentwire.errors import LatentWireError
from latentwire.milestones import m7
from latentwire.session.curve_log import log_csv
from latentwire.session.grid import run_grid
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.spec.axes import is_missing

TABLE = "alignment.csv"
_COLUMNS = (
    *("dataset", "alignment", "codec", "one_to_one_share", "tokens_mean", "sent_tokens_mean"),
    "donor_other_tokens_share",
    *("examples", "unanswered", "accuracy", "accuracy_low", "accuracy_high", "deranged_accuracy"),
    *("pairing_gain", "pairing_gain_low", "pairing_gain_high", "wire_bytes_mean"),
)


def run_on(session: Session) -> None:
    """Evaluate what is not finished, and write the table.

    Raises LatentWireError for a pair whose caches are not merged, and where nothing is left.
    """
    conditions = m7.conditions(session.values)
    if not session.pair.shared_tokenizer:
        aligned = [condition for condition in conditions if condition.alignment]
        if len(aligned) < len(conditions):
            print("m7: alignment off is left out: each model has a tokenizer of its own")
        conditions = aligned
    if not conditions:
        raise LatentWireError("alignment=off: the pair has two tokenizers, name another")
    if session.is_local() and session.files.inserts():
        raise LatentWireError(
            f"m7: pair {session.pair.name} puts the message before the prompt, so nothing is to be"
            " aligned; take a pair whose caches are merged"
        )
    run_grid(session, "m7", conditions, partial(_log_table, session))


def _log_table(session: Session, run: MilestoneRun, measured: pd.DataFrame) -> None:
    """Print the table, and log it to the milestone's run."""
    rows = []
    for row in records(measured):
        alignment = "" if is_missing(row["alignment"]) else str(row["alignment"])
        shares = _tokens(session, str(row["dataset"]), alignment)
        rows.append({**row, **shares, "alignment": alignment or OFF})
    table = pd.DataFrame(rows)[list(_COLUMNS)]
    log_csv(run, table, TABLE)
    for row in rows:
        name = f"{row['dataset']}_{row['alignment']}_one_to_one_share"
        run.writer.log(run.run_id, metrics={name: row["one_to_one_share"]})


def _tokens(session: Session, dataset: str, alignment: str) -> dict[str, float]:
    """Of the receiver's tokens that can take one of the sharer's: the share that has it for its
    own, how many there are of a question, and how many tokens of the sharer's go to them."""
    asked = session.asked(dataset)[: session.examples(dataset)]
    if not alignment:  # all of the instruction, token by token
        mean = sum(len(question.token_ids) - 1 for question in asked) / len(asked)
        every = {"tokens_mean": mean, "sent_tokens_mean": mean}
        return {"one_to_one_share": 1.0, **every, "donor_other_tokens_share": 0.0}
    found = [question.under(alignment).prompts.alignment for question in asked]
    pairs = [aligned for aligned in found if aligned]
    counts = [aligned.one_to_one for aligned in pairs]
    tokens = sum(count for _, count in counts)
    return {
        "one_to_one_share": sum(own for own, _ in counts) / max(1, tokens),
        "tokens_mean": tokens / max(1, len(pairs)),
        "sent_tokens_mean": sum(len(aligned.sendable) for aligned in pairs) / max(1, len(pairs)),
        "donor_other_tokens_share": _donors_of_other_tokens(session, dataset, alignment),
    }


def _donors_of_other_tokens(session: Session, dataset: str, alignment: str) -> float:
    """Of questions whose donor has the same prompt length: the share of which it has another number
    of the sharer's tokens, and is brought to the own number of them."""
    count, other, same = session.examples(dataset), 0, 0
    for question, donor in zip(
        session.asked(dataset)[:count], session.donors(dataset), strict=False
    ):
        if len(question.prompts.receiver_ids) == len(donor.prompts.receiver_ids):
            both = [each.under(alignment).prompts.alignment for each in (question, donor)]
            sizes = {len(aligned.sendable) for aligned in both if aligned}
            other, same = other + (len(sizes) > 1), same + 1
    return other / max(1, same)
