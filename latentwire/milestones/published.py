"""The published study as runs: its per-question answers, with the bytes counted right.

Reads published_per_question.csv, which stays outside the repository, and logs a condition run and
a chunk run for each of its conditions, marked latentwire.source=published. Done once; a second
start finds it all finished. Then `m4 -P source=published` draws the real pair's curves.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.published import FILE_NAME, PAIR, PublishedCondition, read_published
from latentwire.milestones.grid import counted, log_table
from latentwire.milestones.milestone import milestone_run
from latentwire.parameters import EXISTING_FOLDER, Parameter, Values
from latentwire.spec.axes import NONE, params_of
from latentwire.tasks.registry import task_of_records
from latentwire.tracking.resume import chunk_name, finished_chunks
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, IDENTITY, digest_of
from latentwire.tracking.store import open_store
from latentwire.user_files import read_bytes


def _folder(text: str) -> Path:
    folder = EXISTING_FOLDER(text)
    if folder is None:
        raise ValueError(f"give the folder that holds {FILE_NAME}")
    return folder


PARAMETERS = (Parameter("reference_dir", "", _folder, f"folder that holds {FILE_NAME}"),)


def run(values: Values) -> None:
    conditions = read_published(values["reference_dir"])
    identity = hashlib.sha256(read_bytes(values["reference_dir"] / FILE_NAME)).hexdigest()
    store = open_store()
    found = [condition.result for condition in conditions]
    prints = [_fingerprint(identity, condition) for condition in conditions]
    there = finished_chunks(store, prints)
    missing = [i for i, fingerprint in enumerate(prints) if not there[fingerprint]]
    print(f"published: {len(found) - len(missing)} of {len(found)} conditions are in the store")
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
            metrics = counted(result.records, task_of_records(result.dataset))
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
    point = replace(condition.result, records=(), seconds=0.0)
    return digest_of([identity, condition.milestone, vars(point)])


def _params(result: ConditionResult) -> dict[str, str]:
    given = {name: text for name, text in params_of(vars(result)).items() if text != NONE}
    return {
        "pair": result.pair,
        "dataset": result.dataset,
        **given,
        "examples_total": str(result.examples_total),
    }
