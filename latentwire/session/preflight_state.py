"""What is known of a session before it is open, check by check.

The checks fill in an `PreflightState` one after the other; each that needs a piece names the check
which finds it.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from c2c.errors import printable
from latentwire import hub
from latentwire.checks.caches import check_caches, check_disk
from latentwire.checks.clock import check_clock
from latentwire.checks.downloads import Download, describe_downloads, pair_downloads
from latentwire.checks.packages import check_packages, check_python
from latentwire.checks.report import FAIL, OK, WARN, Check, CheckReport, run_checks
from latentwire.checks.store import check_artifacts, check_store
from latentwire.environment import choose_device, choose_dtype
from latentwire.errors import LatentWireError, NotCached, quoted
from latentwire.evaluation.worker_pool import begin_imports
from latentwire.pairs.locate import locate_pair, parts_of
from latentwire.pairs.pair import Pair
from latentwire.parameters import AUTO, INIT, MESSAGE_TOKENS, SKIP, Values
from latentwire.session.configuration import Configuration, announce, chosen_pair
from latentwire.session.known_pairs import recall
from latentwire.session.session import Session
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.registry import QuestionSet, load_dataset, task_named, task_names
from latentwire.terminal import is_quiet, tell
from latentwire.tracking.read_only_store import no_store, open_read_only
from latentwire.tracking.store import Store, open_store, tracking_uri

PYTHON, PACKAGES, PAIR, DEVICE = "python", "packages", "pair", "device"
FILES, MEMORY, CACHES, DISK = "pair files", "memory", "caches", "disk"
PROMPTS = "prompts"
STORE, SCHEMA, ARTIFACTS, CLOCK = "tracking store", "store opens", "artifacts", "clock"
OPTIONS = "options"
COMPUTING = "latentwire.session.computing"  # what workers import
_AT_WORK = (DEVICE, FILES, MEMORY, PROMPTS, OPTIONS)  # matter only where something is computed


@dataclass
class PreflightState:
    """A session that is being opened. None: not found out yet, or not to be had."""

    values: Values
    pair: Pair | None = None
    reason: str = ""  # why this pair
    device: str | None = None
    dtype_name: str | None = None
    store: Store | None = None
    downloads: list[Download] = field(default_factory=list)
    weights: int | None = None  # bytes in memory
    sharer: Any = None  # configurations of the models
    receiver: Any = None
    datasets: dict[str, Dataset] = field(default_factory=dict)
    datasets_missing: list[str] = field(default_factory=list)
    opened: Session | None = None

    @property
    def question_sets(self) -> tuple[QuestionSet, ...]:
        """See `Configuration`."""
        named: tuple[QuestionSet, ...] | None = self.values["dataset"]
        return named or (self.pair.datasets if self.pair else ())

    def session(self) -> Session:
        """The session, with what the checks have loaded; where its store is not to be had, one that
        holds nothing."""
        if self.opened is None:
            assert self.pair and self.device and self.dtype_name
            store = self.store or no_store(tracking_uri())
            chosen = Configuration(self.values, self.pair, self.device, self.dtype_name)
            self.opened = Session.of(chosen, store)
            self.opened.kept.datasets.update(self.datasets)
        return self.opened


def open_session(values: Values, may_wait: bool = False) -> Session:
    """The session that a milestone's parameters ask for, once the fast checks have passed.

    Says which pair it is, then one line on the checks; a warning is printed for each that doubts.
    Raises LatentWireError with a sentence for each that failed, before any run is made.
    `preflight=skip` leaves out the checks.

    With `may_wait`, and where the store knows the pair, those that matter to work alone wait until
    there is some: whoever computes calls `Session.prepare_work` first.
    """
    opening = PreflightState(values)
    if values["preflight"] == SKIP:
        _choose_device(opening)
        _pair(opening)
        announce(require(opening.pair), opening.reason, require(opening.device))
        _open(opening)
        return opening.session()
    report = run_checks(_before_the_plan(opening))
    waits = may_wait and _can_wait(opening, report)
    if not (waits or report.of(FAIL)):  # what has failed is said before torch is imported
        computes = not values["dry_run"] and asked_workers(values) > 1
        if computes and opening.device == "cpu":
            begin_imports(COMPUTING)  # beside this process's own
        report = report.followed_by(run_checks(_of_work(opening), known=report))
    if opening.pair and opening.device:
        announce(opening.pair, opening.reason, opening.device)
    _tell(report, "checks")
    session = opening.session()
    if waits:
        session.kept.waiting = lambda: _tell(
            run_checks(_of_work(opening), known=report), "checks of device, models and prompts"
        )
    return session


def asked_workers(values: Values) -> int:
    """How many are asked for, as far as is known before a device is."""
    asked = values.get("workers", 1)
    return 1 if asked == AUTO else int(asked)


def _tell(report: CheckReport, checks: str) -> None:
    """Print what was found; LatentWireError with a sentence for each check that failed."""
    for finding in report.of(WARN) if not is_quiet() else []:
        print(printable(f"preflight: warning: {finding.sentence}"), file=sys.stderr)
    if failed := report.of(FAIL):
        raise LatentWireError(*(f"preflight: {finding.sentence}" for finding in failed))
    warned = f", {len(report.of(WARN))} warned" if report.of(WARN) else ""
    passed = len(report.of(OK))
    tell(f"preflight: {passed} {checks} passed{warned}")


def _before_the_plan(opening: PreflightState) -> Iterator[Check]:
    """What it takes to say what is finished: no torch, no tokenizer."""
    light: dict[str, Callable[[], str]] = {
        DEVICE: lambda: _choose_device(opening),
        FILES: lambda: _downloads(opening),
    }
    for check in fast_checks(opening):
        if check.title in light:
            yield replace(check, run=light[check.title])
        elif check.title not in _AT_WORK:
            yield check


def _of_work(opening: PreflightState) -> Iterator[Check]:
    return (check for check in fast_checks(opening) if check.title in _AT_WORK)


def _can_wait(opening: PreflightState, report: CheckReport) -> bool:
    """Whether plans can be made without the checks of work."""
    return not report.of(FAIL) and not _missing(opening) and recall(opening.session())


def fast_checks(opening: PreflightState, thorough: bool = False) -> Iterator[Check]:
    """What can be seen in about a second: no model is loaded, nothing downloaded.

    With `thorough`, NVIDIA's driver is asked too, and the store is opened whatever failed before:
    opening makes what is not there yet, which bad input should not.
    """
    yield Check(PYTHON, check_python, "make setup with that Python: PYTHON=python3.11 make setup")
    yield Check(PACKAGES, check_packages, "make setup installs the lock's versions")
    yield from _pair_checks(opening, thorough)
    yield from _data_checks(opening)
    yield from _store_checks(opening, thorough)
    yield Check(
        PROMPTS,
        lambda: _work().prompts_fit(opening),
        "take a pair that can read these texts, with the tokenizers that belong to its models",
        needs=(PAIR, DEVICE, FILES),
    )
    if thorough or MESSAGE_TOKENS.name in opening.values:  # baselines are part of it
        # The last: it makes the session, whose store must be known by then.
        yield Check(
            OPTIONS,
            lambda: _work().options_readable(opening),
            "nothing, they count as wrong; or take a pair with another tokenizer",
            needs=(DEVICE, PAIR, FILES),
        )


def _pair_checks(opening: PreflightState, thorough: bool) -> Iterator[Check]:
    yield Check(
        DEVICE,
        lambda: _device(opening, thorough),
        "take device=cpu, or install a torch build and a driver that fit the GPU",
    )
    yield Check(PAIR, lambda: _pair(opening), "docs/adding_a_pair.md says what a pair may be")
    yield Check(
        FILES,
        lambda: _files(opening),
        "fetch the files again, or name a folder that holds them, in the pair or in its YAML file",
        needs=(PAIR,),
    )
    yield Check(
        MEMORY,
        lambda: _work().memory_suffices(opening),
        "end what else runs on the device, or take a smaller pair, dtype=bfloat16, another device",
        needs=(DEVICE, FILES),
    )


def _data_checks(opening: PreflightState) -> Iterator[Check]:
    # Made when it is asked for: by then the pair says which sets there are.
    for asked in opening.question_sets:
        yield Check(
            f"data {asked}",
            lambda asked=asked: _dataset(opening, asked),  # type: ignore[misc]
            "fill HF_HOME online, or give data_dir=FOLDER with the set's JSON lines",
        )
    yield Check(
        CACHES,
        lambda: check_caches(_uses_hub(opening), bool(_missing(opening))),
        "set HF_HOME and C2C_CKPT_ROOT to folders that are there and can be written",
    )
    yield Check(
        DISK, lambda: check_disk(opening.downloads), "make room, or set HF_HOME to a larger disk"
    )


def _store_checks(opening: PreflightState, thorough: bool) -> Iterator[Check]:
    yield Check(
        STORE,
        lambda: check_store(tracking_uri()),
        "start the server, or mend or unset MLFLOW_TRACKING_URI; give several machines a server",
    )
    yield Check(
        SCHEMA,
        lambda: _open(opening),
        "mlflow db upgrade URI for an older store; else another MLFLOW_TRACKING_URI",
        needs=(STORE,) if thorough else (PAIR, DEVICE, STORE),
    )
    yield Check(
        ARTIFACTS,
        lambda: check_artifacts(require(opening.store)),
        "make the folder writable, or take another experiment (MLFLOW_EXPERIMENT_NAME)",
        needs=(SCHEMA,),
    )
    yield Check(
        CLOCK,
        lambda: check_clock(require(opening.store)),
        "set the clock (timedatectl set-ntp true, or the host's)",
        needs=(SCHEMA,),
    )


def _device(opening: PreflightState, thorough: bool) -> str:
    _choose_device(opening)
    try:
        return _work().device_computes(opening, thorough)
    except LatentWireError:
        opening.device = None
        raise


def _choose_device(opening: PreflightState) -> str:
    opening.device = choose_device(opening.values["device"])
    opening.dtype_name = choose_dtype(opening.values["dtype"], opening.device)
    return f"{opening.device}, {opening.dtype_name}"


def _pair(opening: PreflightState) -> str:
    cuda = (opening.device or choose_device(AUTO)).startswith("cuda")
    pair, opening.reason = chosen_pair(opening.values["pair"], cuda)
    no_weights = pair.fuser is None and pair.interface is None
    if no_weights and INIT.name not in opening.values:  # `train` makes one
        raise LatentWireError(
            f"pair {pair.name} has no fuser: train one (latentwire run train -P"
            f" pair={opening.values['pair']} -P data=QUESTIONS), and give the pair's file that this"
            " writes"
        )
    if pair.interface and INIT.name in opening.values and pair.receiver == pair.sharer:
        raise LatentWireError(
            f"pair {pair.name} has one model at both ends, and {quoted(pair.interface)} has then no"
            " weights to train: give a pair's file that names two models"
        )
    if INIT.name in opening.values:
        pair = _in_training(pair, opening.values["alignment"])
    if not (opening.values["dataset"] or pair.datasets):
        raise LatentWireError(
            f"pair {pair.name} names no question sets: give dataset=NAME, of"
            f" {', '.join(task_names())}"
        )
    opening.pair = pair
    return f"{pair.name} ({opening.reason}): {pair.description}"


def _in_training(pair: Pair, alignment: str) -> Pair:
    """The pair under the alignment that is asked for. LatentWireError where there is none."""
    if alignment != AUTO and pair.shared_tokenizer:
        raise LatentWireError(
            f"alignment={alignment}: the models of pair {pair.name} have one tokenizer, so nothing"
            " is to be aligned: leave it out"
        )
    return pair if alignment == AUTO else replace(pair, alignment=alignment)


def _files(opening: PreflightState) -> str:
    found = _downloads(opening)
    if opening.downloads:
        return found
    return _work().inspect_files(opening, locate_pair(require(opening.pair), download=False))


def _downloads(opening: PreflightState) -> str:
    opening.downloads = pair_downloads(require(opening.pair), needed=not opening.values["dry_run"])
    if not opening.downloads:
        return "here"
    return f"to be downloaded: {describe_downloads(opening.downloads)}"


def _work() -> ModuleType:
    """The checks of work, whose module takes seconds to import."""
    from latentwire.session import work_checks

    return work_checks


def _dataset(opening: PreflightState, asked: QuestionSet) -> str:
    folder = opening.values["data_dir"]
    try:
        dataset = load_dataset(asked, folder, download=False)
    except NotCached:
        if hub.is_offline():
            raise
        if not (opening.values["dry_run"] or hub.answers()):
            load_dataset(asked, folder)  # has the sentence for this
        opening.datasets_missing.append(str(asked))
        return "not here yet, to be downloaded (a few MB)"
    opening.datasets[str(asked)] = dataset
    return describe(dataset)


def describe(dataset: Dataset) -> str:
    """Which questions, as a finding has it."""
    left_out = f", {len(dataset.left_out)} left out" if dataset.left_out else ""
    return (
        f"{len(dataset.examples)} questions of {dataset.rows} rows{left_out} from {dataset.source},"
        f" sha256 {dataset.hash[:12]}"
    )


def _uses_hub(opening: PreflightState) -> bool:
    """Whether anything of the session is kept in the hub's cache."""
    if opening.pair is None:
        return True
    sources = [source for _, source, _ in parts_of(opening.pair)]
    questions = any(
        isinstance(asked, str) and task_named(asked).test.on_hub for asked in opening.question_sets
    )
    asked = questions and opening.values["data_dir"] is None
    return asked or any(source.path is None for source in sources)


def _missing(opening: PreflightState) -> list[str]:
    return [download.what for download in opening.downloads] + opening.datasets_missing


def _open(opening: PreflightState) -> str:
    opening.store = open_read_only() if opening.values["dry_run"] else open_store()
    return "its schema is this MLflow's"


_T = TypeVar("_T")


def require(value: _T | None) -> _T:
    assert value is not None
    return value
