"""A small study in a store, and a field by field description of one."""

import hashlib
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.curve import ConditionResult
from latentwire.evaluation.record import Record
from latentwire.session.condition_plan import ConditionPlan
from latentwire.spec.axes import params_of
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import Setting
from latentwire.tasks.arc_c import TASK
from latentwire.tracking.export_import import ORIGIN_RUN
from latentwire.tracking.finished_chunks import chunk_name
from latentwire.tracking.given_run import PROJECT
from latentwire.tracking.processes import own_process
from latentwire.tracking.runs import (
    CHUNK,
    CODE_SHA,
    CONDITION,
    FINGERPRINT,
    IDENTITY,
    MILESTONE,
    PROCESS_ID,
    SOURCE,
    RunWriter,
)
from latentwire.tracking.store import Store

CONDITIONS = tuple(
    Condition("c2c", Channel(codec, ratio), control)
    for codec, ratio in (("int8", 1.0), ("int4", 0.5))
    for control in ("matched", "deranged")
)
CHUNKS = ((0, 3), (3, 5))


def dead_process() -> str:
    """The name of a process of this machine that is gone: no system gives out such a number."""
    _, *place, _, started = own_process().split(" ")
    return " ".join([uuid.uuid4().hex, *place, "99999999", started])


def far_process() -> str:
    """The name of a process that may live or not: it is of another boot."""
    _, _, *place, number, started = own_process().split(" ")
    return " ".join([uuid.uuid4().hex, str(uuid.uuid4()), *place, number, started])


def made_by_mlflow(entry_point: str) -> dict[str, str]:
    """The tags of a run that `mlflow run` has made for an entry point of this project."""
    return {
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": f"file://{PROJECT}",
        "mlflow.project.entryPoint": entry_point,
    }


def make_setting(pair: str = "demo") -> Setting:
    return Setting(pair, "0" * 64, "set", "1" * 64, 1, "float32", seed=42)


def make_records(plan: ConditionPlan, span: tuple[int, int]) -> list[Record]:
    """Answers that depend on the condition, some of them wrong and one unreadable."""
    deranged = plan.condition.control == "deranged"
    records = []
    for index in range(*span):
        draw = hashlib.sha256(f"{plan.fingerprint}{index}".encode()).digest()[0]
        predicted = None if draw == 0 else "ABCD"[draw % 4]
        donor = (index + 1) % plan.examples_total
        records.append(
            Record(
                example_id=f"set:{index}",
                index=index,
                answer="ABCD"[index % 4],
                predicted=predicted,
                correct=predicted == "ABCD"[index % 4],
                prompt_tokens=100,
                generated_tokens=5,
                wire_bytes=1000 + draw,
                output=f"antwort – {predicted}",
                donor_id=f"set:{donor}" if deranged else None,
                donor_answer="ABCD"[donor % 4] if deranged else None,
                elements=500,
            )
        )
    return records


def write_chunk(writer: RunWriter, parent: str, plan: ConditionPlan, span: tuple[int, int]) -> str:
    """One finished chunk run, as a grid writes it."""
    setting, records = plan.setting, make_records(plan, span)
    tags = {
        FINGERPRINT: setting.chunk_fingerprint(plan.condition, *span),
        CONDITION: plan.fingerprint,
        CHUNK: chunk_name(*span),
        IDENTITY: setting.identity(),
    }
    metrics = {**chunk_metrics(records, TASK), "seconds": 1.25}
    title = f"{plan.condition.label} {chunk_name(*span)}"
    return writer.write_chunk(title, parent, plan.params, tags, records, metrics)


def write_condition(store: Store, result: ConditionResult, identity: str = "one") -> None:
    """Made-up answers of a condition as one finished chunk run."""
    params = {
        "pair": result.pair,
        "dataset": result.dataset,
        **params_of(vars(result)),
        "examples_total": str(result.examples_total),
    }
    fingerprint = f"{identity} {sorted(params.items())}"
    tags = {FINGERPRINT: fingerprint, CONDITION: fingerprint, IDENTITY: identity}
    span = chunk_name(0, len(result.records))
    writer = RunWriter(store, {SOURCE: result.source})
    parent = writer.start("tests", "condition", None, params, tags)
    writer.write_chunk(span, parent, params, {**tags, CHUNK: span}, result.records, {"seconds": 1})
    writer.finish(parent)


def make_plan(condition: Condition, total: int = 5, pair: str = "demo") -> ConditionPlan:
    return ConditionPlan(make_setting(pair), condition, total, total, ())


def start_condition(writer: RunWriter, milestone: str, plan: ConditionPlan) -> str:
    tags = {FINGERPRINT: plan.fingerprint, CONDITION: plan.fingerprint}
    return writer.start(plan.condition.label, "condition", milestone, plan.params, tags)


def write_study(store: Store, folder: Path) -> None:
    """A finished milestone with all that runs can have; another that failed, above a chunk that
    is finished; and one that failed with nothing of worth."""
    common = {MILESTONE: "m2", CODE_SHA: "0" * 40, SOURCE: "local"}
    writer = RunWriter(store, common)
    milestone = writer.start("m2 demo", "milestone", None, {"seed": "42", "empty": ""}, {})
    writer.set_description(milestone, "```\na table – ü\n```")
    writer.log_text(milestone, "{}", "config.json")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "data.bin").write_bytes(bytes(range(256)) * 5000)
    (folder / "deep" / "empty").write_bytes(b"")
    writer.log_folder(milestone, folder / "deep", "files")
    history = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(5)]
    history += [Metric("loss", math.nan, 1_700_000_000_009, 9), Metric("again", 2.5, 5, 0)]
    store.client.log_batch(milestone, history)
    data = Dataset("questions", "abc123", "local", '{"uri": "set"}', '{"a": 1}', None)
    store.client.log_inputs(milestone, [DatasetInput(data, [InputTag("split", "test")])])
    for condition in CONDITIONS:
        plan = make_plan(condition)
        parent = start_condition(writer, milestone, plan)
        for span in CHUNKS:
            write_chunk(writer, parent, plan, span)
        writer.finish(parent, {"accuracy": 0.5})
    writer.finish(milestone)
    broken = RunWriter(store, common)
    killed = broken.start("m2 demo (attempt 2)", "milestone", None, {}, {})
    plan = make_plan(Condition("receiver"))
    parent = start_condition(broken, killed, plan)
    write_chunk(broken, parent, plan, (0, 5))
    broken.close("KILLED")
    failed = RunWriter(store, common)
    failed.start("m2 demo (attempt 3)", "milestone", None, {}, {})
    failed.close("FAILED")
    for run in store.search("", [store.experiment_id]):  # the process that wrote them is gone
        store.client.set_tag(run.info.run_id, PROCESS_ID, dead_process())


def describe(store: Store) -> dict[str, dict[str, Any]]:
    """Origin id -> everything about a run that a copy must keep, parents by their origin ids."""
    runs = list(store.search("", [store.experiment_id]))
    origins = {run.info.run_id: run.data.tags.get(ORIGIN_RUN, run.info.run_id) for run in runs}
    return {origins[run.info.run_id]: _fields(store, run, origins) for run in runs}


def _fields(store: Store, run: Run, origins: Mapping[str, str]) -> dict[str, Any]:
    info, data, client = run.info, run.data, store.client
    tags = {k: v for k, v in data.tags.items() if k not in (ORIGIN_RUN, MLFLOW_PARENT_RUN_ID)}
    parent = data.tags.get(MLFLOW_PARENT_RUN_ID)
    files: dict[str, bytes] = {}
    if client.list_artifacts(info.run_id):
        folder = Path(client.download_artifacts(info.run_id, ""))
        found = [path for path in folder.rglob("*") if path.is_file()]
        files = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    return {
        "name": info.run_name,
        "status": info.status,
        "user": info.user_id,
        "times": (info.start_time, info.end_time),
        "parent": origins[parent] if parent else None,
        "tags": tags,
        "params": data.params,
        "latest": {key: repr(value) for key, value in data.metrics.items()},
        "history": {
            key: sorted(
                (m.step, m.timestamp, repr(m.value))
                for m in client.get_metric_history(info.run_id, key)
            )
            for key in data.metrics
        },
        "inputs": [entry.to_dictionary() for entry in run.inputs.dataset_inputs],
        "files": files,
    }
