"""M1's other half: how long everything beside the codecs takes, for the question of bandwidth."""

from dataclasses import dataclass

from latentwire.evaluation.link_times import measure
from latentwire.evaluation.unanswerable import readable
from latentwire.milestones.milestone import MilestoneRun
from latentwire.milestones.study import Study
from latentwire.parameters import Values
from latentwire.tracking.once import each_once
from latentwire.tracking.resume import finished_runs
from latentwire.tracking.runs import FINGERPRINT, LINK_LEVEL, digest_of

MOST_QUESTIONS = 4  # each writes a text of 256 tokens


@dataclass(frozen=True)
class _Item:
    """The first questions of a dataset."""

    dataset: str
    questions: int
    fingerprint: str


def plan_link_times(study: Study, values: Values) -> list[_Item]:
    """What is missing: an item a dataset that has no finished measurement."""
    items = [_item(study, values, name) for name in study.dataset_names]
    return [item for item in items if _finished(study, item) is None]


def measure_link_times(study: Study, values: Values, milestone: MilestoneRun) -> None:
    """Measure what is missing, each in a run of its own below the milestone's."""
    missing = plan_link_times(study, values)
    if not missing:
        return
    with milestone.claims.until_done() as claims:
        for item, run_id in each_once(
            claims,
            missing,
            lambda item: f"link:{item.fingerprint}",
            lambda item: _finished(study, item),
            lambda item: _measure(study, milestone, item),
        ):
            print(f"m1: times beside the codecs on {item.dataset} (run {run_id})")


def _item(study: Study, values: Values, dataset: str) -> _Item:
    count = min(values["sample"], study.examples(dataset), MOST_QUESTIONS)
    content = {
        "milestone": "m1 link times",
        "setting": study.setting(dataset).identity(),
        "dataset": study.dataset(dataset).hash,
        "questions": count,
        "device": study.device.partition(":")[0],  # times differ
    }
    return _Item(dataset, count, digest_of(content))


def _finished(study: Study, item: _Item) -> str | None:
    run = next(finished_runs(study.store, LINK_LEVEL, item.fingerprint), None)
    return None if run is None else str(run.info.run_id)


def _measure(study: Study, milestone: MilestoneRun, item: _Item) -> str:
    params = {
        "pair": study.pair.name,
        "dataset": item.dataset,
        "sample": str(item.questions),
        "dtype": str(study.dtype).removeprefix("torch."),
    }
    run_id = milestone.writer.start(
        f"{item.dataset} link times",
        LINK_LEVEL,
        milestone.run_id,
        params,
        {FINGERPRINT: item.fingerprint},
    )
    questions = study.questions(item.dataset)[0][: item.questions]
    milestone.writer.finish(run_id, measure(study.loaded, readable(study.loaded, questions)))
    return run_id
