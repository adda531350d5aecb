"""M1's other half: how long everything beside the codecs takes, for the question of bandwidth."""

from dataclasses import dataclass

from latentwire.evaluation.latency import measure
from latentwire.evaluation.unanswerable import readable
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.tracking.finished_chunks import finished_runs
from latentwire.tracking.leases import run_exclusively
from latentwire.tracking.runs import FINGERPRINT, LINK_LEVEL, digest_of

MOST_QUESTIONS = 4  # each writes a text of 256 tokens


@dataclass(frozen=True)
class _Item:
    """The first questions of a dataset."""

    dataset: str
    questions: int
    fingerprint: str


def plan_link_times(session: Session) -> list[_Item]:
    """What is missing: an item a dataset that has no finished measurement."""
    items = [_item(session, name) for name in session.dataset_names]
    return [item for item in items if _finished(session, item) is None]


def measure_link_times(session: Session, milestone: MilestoneRun) -> None:
    """Measure what is missing, each in a run of its own below the milestone's."""
    missing = plan_link_times(session)
    if not missing:
        return
    with milestone.leases.until_done() as leases:
        for item, run_id in run_exclusively(
            leases,
            missing,
            lambda item: f"link:{item.fingerprint}",
            lambda item: _finished(session, item),
            lambda item: _measure(session, milestone, item),
        ):
            print(f"m1: times beside the codecs on {item.dataset} (run {run_id})")


def _item(session: Session, dataset: str) -> _Item:
    count = min(session.values["sample"], session.examples(dataset), MOST_QUESTIONS)
    content = {
        "milestone": "m1 link times",
        "setting": session.setting(dataset).identity(),
        "dataset": session.dataset(dataset).hash,
        "questions": count,
        "device": session.device.partition(":")[0],  # times differ
        "texts": "coded by the receiver's model too",  # which was not measured before
        "kernels": "those of the engine",  # before, some prepared themselves within the times
    }
    if session.dataset(dataset).private:
        content["evidence"] = "read whole by the receiver"  # which was not measured before
        content["summary"] = "written by the sharer"  # likewise
    else:
        content["letter"] = "written by the sharer"  # likewise
    if session.pair.alignment:
        content["alignment"] = session.pair.alignment
    return _Item(dataset, count, digest_of(content))


def _finished(session: Session, item: _Item) -> str | None:
    run = next(finished_runs(session.store, LINK_LEVEL, item.fingerprint), None)
    return None if run is None else str(run.info.run_id)


def _measure(session: Session, milestone: MilestoneRun, item: _Item) -> str:
    params = {
        "pair": session.pair.name,
        "dataset": item.dataset,
        "sample": str(item.questions),
        "dtype": session.dtype_name,
    }
    run_id = milestone.writer.start(
        f"{item.dataset} link times",
        LINK_LEVEL,
        milestone.run_id,
        params,
        {FINGERPRINT: item.fingerprint},
    )
    chosen = session.asked(item.dataset)[: item.questions]
    questions = [question.under(session.pair.alignment) for question in chosen]
    milestone.writer.finish(run_id, measure(session.loaded, readable(session.loaded, questions)))
    return run_id
