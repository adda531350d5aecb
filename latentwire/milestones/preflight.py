"""Preflight: will the rest work? Checks everything that a milestone needs, cheapest first.

One line a check, with a way to mend what is wrong; ends with an error if any failed. The report
is logged as an artifact where the store can be written.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import torch

from latentwire.condition import Channel, Condition
from latentwire.errors import LatentWireError
from latentwire.evaluation import pipeline
from latentwire.milestones.milestone import MilestoneRun, milestone_run
from latentwire.milestones.study import Study, open_study
from latentwire.parameters import STUDY, Values

PARAMETERS = STUDY
LOCK_FILE = Path(__file__).parents[2] / "constraints.txt"
PINNED = ("torch", "transformers", "datasets", "mlflow", "safetensors")
LEAST_FREE_BYTES = 1_000_000_000

Check = tuple[str, Callable[[], str]]


class _Warning(Exception):
    """A finding that does not stop a run."""


def run(values: Values) -> None:
    study = open_study(values)
    with milestone_run(
        study.store, "preflight", study.resolved(values), study.pair.name
    ) as milestone:
        lines, failed = [], 0
        for title, check in _checks(study, milestone):
            began = time.perf_counter()
            try:
                state, finding = "ok", check()
            except _Warning as warning:
                state, finding = "warn", str(warning)
            except Exception as error:  # a check that breaks is a check that fails
                state, finding = "FAIL", f"{error}" or type(error).__name__
                failed += 1
            line = f"{state:<4}  {title:<16} {finding} ({time.perf_counter() - began:.1f} s)"
            print(line, flush=True)
            lines.append(line)
        milestone.writer.log_text(milestone.run_id, "\n".join(lines) + "\n", "preflight.txt")
        if failed:
            raise LatentWireError(f"preflight: {failed} of {len(lines)} checks failed, see above")


def _checks(study: Study, milestone: MilestoneRun) -> Iterator[Check]:
    yield "packages", _packages
    yield "device", lambda: _device(study)
    yield "disk", _disk
    yield "tracking store", lambda: _store(study, milestone)
    for name in study.dataset_names:
        yield f"data {name}", lambda name=name: _dataset(study, name)  # type: ignore[misc]
    yield "pair files", lambda: _files(study)
    yield "pair in memory", lambda: _pair(study)
    yield "one question", lambda: _question(study)


def _packages() -> str:
    if not LOCK_FILE.exists():
        raise _Warning("the lock constraints.txt is not here, versions are not compared")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", LOCK_FILE.read_text(), re.MULTILINE))
    found = {name: metadata.version(name) for name in PINNED}
    other = [f"{n} {v} (lock: {pins[n]})" for n, v in found.items() if v.split("+")[0] != pins[n]]
    if other:
        raise _Warning(f"not the locked versions: {', '.join(other)}; make setup installs those")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _device(study: Study) -> str:
    if not study.device.startswith("cuda"):
        return f"{study.device}, {torch.get_num_threads()} threads, {study.dtype}"
    free, total = torch.cuda.mem_get_info(study.device)
    name = torch.cuda.get_device_name(study.device)
    return f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, {study.dtype}"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < LEAST_FREE_BYTES:
        raise LatentWireError(f"{free / 1e9:.1f} GB free here: make room, runs are kept here")
    return f"{free / 1e9:.0f} GB free in the project folder"


def _store(study: Study, milestone: MilestoneRun) -> str:
    text = "written and read back\n"
    milestone.writer.log_text(milestone.run_id, text, "round_trip.txt")
    read = study.store.client.download_artifacts(milestone.run_id, "round_trip.txt")
    if Path(read).read_text() != text:
        raise LatentWireError("an artifact came back altered: check the artifact store")
    return f"{study.store.uri}, artifact written and read back"


def _dataset(study: Study, name: str) -> str:
    dataset = study.dataset(name)
    return f"{len(dataset.examples)} questions of {dataset.rows} rows from {dataset.source}"


def _files(study: Study) -> str:
    return f"fuser {study.identity['fuser'][:19]} in {study.located.fuser}"


def _pair(study: Study) -> str:
    link, fuser = study.loaded.link, study.loaded.fuser
    layers = len(fuser.layer_map)
    opened = {
        kind: sum(fuser.projector(layer).is_open(kind) for layer in fuser.layer_map)
        for kind in ("key", "value")
    }
    if not any(opened.values()):
        raise _Warning("every gate of the fuser is closed: C2C will equal the receiver alone")
    return (
        f"the fuser fits; gates open: keys {opened['key']} and values {opened['value']} of"
        f" {layers} layers; sent: K of {len(link.key_layers)}, V of {len(link.value_layers)}"
        f" sharer layers"
    )


def _question(study: Study) -> str:
    questions, donors = study.questions(study.dataset_names[0])
    condition = Condition("c2c", Channel("int8"), "matched")
    record = pipeline.evaluate(study.loaded, condition, questions[0], donors[0])
    return f"answered {record.output!r} (key {record.answer}) over {record.wire_bytes:,} bytes"
