"""The published study's answers as runs of the store, once."""

import hashlib
from dataclasses import replace

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.published import PAIR, PublishedCondition, read_published
from latentwire.parameters import PUBLISHED_FILE, Values
from latentwire.session.curve_log import log_table
from latentwire.session.milestone_run import milestone_run
from latentwire.spec.axes import BUDGETS, NONE, params_of
from latentwire.tasks.registry import task_of_records
from latentwire.terminal import tell
from latentwire.tracking.finished_chunks import chunk_name, finished_chunks
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, IDENTITY, digest_of
from latentwire.tracking.store import open_store
from latentwire.user_files import read_bytes


def run(values: Values) -> None:
    """Log a condition run and a chunk run for each published condition that is not there."""
    conditions = read_published(values["reference_dir"])
    identity = hashlib.sha256(read_bytes(values["reference_dir"] / PUBLISHED_FILE)).hexdigest()
    store = open_store()
    found = [condition.result for condition in conditions]
    prints = [_fingerprint(identity, condition) for condition in conditions]
    there = finished_chunks(store, prints)
    missing = [i for i, fingerprint in enumerate(prints) if not there[fingerprint]]
    tell(f"published: {len(found) - len(missing)} of {len(found)} conditions are in the store")
    with milestone_run(store, "published", values, PAIR, source="published") as milestone:
        writer = milestone.writer
        for index in missing:
            result, fingerprint = found[index], prints[index]
            params = _params(result)
            tags = {FINGERPRINT: fingerprint, CONDITION: fingerprint, IDENTITY: identity}
            title = (
                f"{conditions[index].milestone} {result.dataset} {result.codec}"
                f" {result.keep_ratio:g} {result.order}"
            )
            run_id = writer.start(title, "condition", milestone.run_id, params, tags)
            metrics = chunk_metrics(result.records, task_of_records(result.dataset))
            span = chunk_name(0, len(result.records))
            writer.write_chunk(
                f"{title} {span}",
                run_id,
                params,
                {**tags, CHUNK: span},
                result.records,
                {**metrics, "seconds": result.seconds},
            )
            writer.finish(run_id, metrics)
        log_table(milestone, build_curve(found))


def _fingerprint(identity: str, condition: PublishedCondition) -> str:
    point = vars(replace(condition.result, records=(), seconds=0.0))
    # Both models of the study read one tokenizer's ids, nothing had a budget, and no control was
    # run: these axes are younger than its first runs.
    younger = ("alignment", *BUDGETS, "donor", "control_calibration")
    told = {name: value for name, value in point.items() if name not in younger}
    return digest_of([identity, condition.milestone, told])


def _params(result: ConditionResult) -> dict[str, str]:
    given = {name: text for name, text in params_of(vars(result)).items() if text != NONE}
    return {
        "pair": result.pair,
        "dataset": result.dataset,
        **given,
        "examples_total": str(result.examples_total),
    }
