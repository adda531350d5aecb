"""What a dry run says beside what is finished: how long the rest takes, and what is downloaded.

Times come from the same store alone: from what was finished before of the same pair in the same
dtype on the same kind of device (a GPU's name, or cpu).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from latentwire.checks.downloads import Download, describe_downloads, pair_downloads
from latentwire.environment import device_kind
from latentwire.session.session import Session
from latentwire.spec.axes import AXES
from latentwire.spec.condition import Condition
from latentwire.tracking.calibration_lookup import PAIR_IDENTITY
from latentwire.tracking.runs import CODEC_LEVEL, DEVICE, LEVEL

QUESTIONS = "questions"  # metric of a calibration: how many it was made from
# What a pace depends on: one calibration or donor is as quick as another.
_ALIKE = ("calibration", "control_calibration", "donor")
_KEY = tuple(n for n in AXES if n not in _ALIKE and not AXES[n].derived)


@dataclass
class Throughput:
    """Seconds that finished work took, and what it came to."""

    seconds: float = 0.0
    done: float = 0.0  # answers, or questions measured
    runs: int = 0

    def add(self, seconds: float, done: float) -> None:
        self.seconds, self.done, self.runs = self.seconds + seconds, self.done + done, self.runs + 1

    def time_for(self, amount: float) -> float | None:
        """Seconds; 0 for nothing, None where nothing was finished."""
        if not amount:
            return 0.0
        return self.seconds / self.done * amount if self.done else None


@dataclass
class ChunkThroughputs:
    """The pace of all finished chunks, and of each condition's."""

    every: Throughput = field(default_factory=Throughput)
    by_condition: dict[tuple[str, ...], Throughput] = field(default_factory=dict)

    def time_for(self, work: Iterable[tuple[Condition, int]]) -> float | None:
        """Seconds for answers under conditions: at a condition's own pace where that is known,
        else at that of all; None where nothing was finished."""
        times = [
            self.by_condition.get(_key(condition.params()), self.every).time_for(answers)
            for condition, answers in work
        ]
        return None if None in times else sum(time for time in times if time is not None)


def chunk_throughputs(session: Session) -> ChunkThroughputs:
    """How long this store's finished chunks took here."""
    milestones = milestones_here(session)
    conditions = {
        run.info.run_id
        for run in _runs_of(session, "condition")
        if run.data.tags.get(MLFLOW_PARENT_RUN_ID) in milestones
    }
    paces = ChunkThroughputs()
    for run in _runs_of(session, "chunk", _FINISHED):
        seconds, examples = (run.data.metrics.get(name) for name in ("seconds", "examples"))
        if run.data.tags.get(MLFLOW_PARENT_RUN_ID) in conditions and seconds and examples:
            paces.every.add(seconds, examples)
            key = _key(run.data.params)
            paces.by_condition.setdefault(key, Throughput()).add(seconds, examples)
    return paces


def codec_throughput(session: Session) -> Throughput:
    """How long M1's finished measurements took here, by questions measured."""
    milestones = milestones_here(session)
    pace = Throughput()
    for run in _runs_of(session, CODEC_LEVEL, _FINISHED):
        sample = run.data.params.get("sample", "")
        if run.data.tags.get(MLFLOW_PARENT_RUN_ID) in milestones and sample.isdigit():
            pace.add(_duration_s(run), int(sample))
    return pace


def calibration_throughput(session: Session) -> Throughput:
    """How long finished calibrations took here, by questions read. The pair must be here."""
    pace, here = Throughput(), milestones_here(session)
    identity = session.subject.pair_identity
    for run in session.store.search(_FINISHED, tags={PAIR_IDENTITY: identity}):
        questions = run.data.metrics.get(QUESTIONS)
        if run.info.run_id in here and questions:
            pace.add(_duration_s(run), questions)
    return pace


def milestones_here(session: Session) -> dict[str, Run]:
    """Run id -> milestone run, of those computed on the kind of device that the session is on."""
    kind = device_kind(session.device)
    return {
        run.info.run_id: run
        for run in session.store.search(tags={LEVEL: "milestone"})
        if run.data.tags.get(DEVICE, run.data.params.get("device")) == kind
    }


def print_cost(session: Session, seconds: float | None, pace: Throughput, what: str) -> None:
    """The last lines of a plan. `what` names one of the runs that `pace` is from."""
    kind = device_kind(session.device)
    if seconds is None:
        told_time = f"unknown, no finished {what}s on this device yet"
    elif seconds == 0:
        told_time = "nothing to compute"
    else:
        source = f"from {pace.runs} finished {what}{'' if pace.runs == 1 else 's'}"
        told_time = f"about {in_words(seconds)} on {kind} once the models are loaded ({source})"
    print(f"  time: {told_time}")
    questions = [Download(f"questions of {name}", None) for name in session.datasets_missing()]
    print(
        f"  to download: {describe_downloads(pair_downloads(session.pair) + questions)}", flush=True
    )


def in_words(seconds: float) -> str:
    """A duration to two digits or so."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _runs_of(session: Session, level: str, filter_string: str = "") -> Iterator[Run]:
    """The runs of a level that are of the session's pair and dtype."""
    params = {"pair": session.pair.name, "dtype": session.dtype_name}
    return session.store.search(filter_string, tags={LEVEL: level}, params=params)


_FINISHED = "attributes.status = 'FINISHED'"


def _key(params: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(params.get(name, "none") for name in _KEY)


def _duration_s(run: Run) -> float:
    return float(run.info.end_time - run.info.start_time) / 1000
