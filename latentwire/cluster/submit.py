"""`latentwire submit`: an entry point as a Slurm array, checked before it is queued."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from latentwire.cluster import storage
from latentwire.cluster.entry_point import arguments, check, given_parameters
from latentwire.cluster.options import OPTIONS, SlurmOptions, read_options
from latentwire.cluster.script import job_script
from latentwire.errors import LatentWireError, quoted
from latentwire.milestones.registry import Milestone, all_milestones, load_milestone
from latentwire.pairs.load import load_pair
from latentwire.parameters import AUTO
from latentwire.redaction import holds_password
from latentwire.tracking.store import DEFAULT_URI
from latentwire.user_files import path_of

URI = "MLFLOW_TRACKING_URI"
# Written into the script, so that a job can be read and repeated without its submitter's shell.
PASSED_ON = (
    *("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "C2C_CKPT_ROOT"),
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"),
)
JOB = "JOB"  # stands for the job's number where there is none yet
SBATCH_TIMEOUT_S = 120


@dataclass(frozen=True)
class Job:
    """One array job that is ready to be submitted."""

    entry: Milestone
    given: Mapping[str, str]
    options: SlurmOptions
    environment: Mapping[str, str]
    folder: Path  # where it is submitted and runs

    @property
    def name(self) -> str:
        return f"latentwire-{self.entry.name}"

    def script(self, after: str | None = None) -> str:
        command = [python(), *arguments(self.entry, self.given)]
        return job_script(self.name, command, self.options, self.environment, self.folder, after)


def submit(options: argparse.Namespace) -> None:
    """Check everything, then submit, and say how to watch and cancel; or print the scripts."""
    folder = Path.cwd()
    given = given_parameters(options.parameters)
    names = [options.entry, *([options.then] if options.then else [])]
    entries = [load_milestone(name) for name in names]
    check(entries, given)
    texts = {o.name: getattr(options, o.name) for o in OPTIONS if getattr(options, o.name)}
    slurm = read_options(options.config, texts, options.sbatch)
    if slurm.tasks > 1 and not entries[0].is_shardable:
        shardable = ", ".join(entry.name for entry in all_milestones() if entry.is_shardable)
        raise LatentWireError(
            f"tasks={slurm.tasks}: every task would do all of {options.entry}; only"
            f" {shardable} can be divided among tasks"
        )
    uri = storage.seen_from_anywhere(os.environ.get(URI) or DEFAULT_URI, folder)
    # The rest goes along unseen (--export=ALL), as does what must not be written down.
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = {name: text for name, text in passed.items() if not holds_password(text)}
    if not holds_password(uri):
        environment = {URI: uri} | environment
    first = Job(entries[0], given, slurm, environment, folder)
    last = [
        replace(first, entry=entry, given=_drawn(given), options=replace(slurm, tasks=1))
        for entry in entries[1:]
    ]
    warning = storage.store_warning(uri, slurm.tasks)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if options.dry_run:
        print("\n".join([first.script(), *(job.script(after=JOB) for job in last)]))
        return
    _submit_all(first, last)


def _drawn(given: Mapping[str, str]) -> dict[str, str]:
    """What M4 draws of a pair's file: it knows pairs by their names."""
    pair = given.get("pair", AUTO)
    return dict(given) | ({} if pair == AUTO else {"pair": load_pair(pair).name})


def _submit_all(first: Job, last: list[Job]) -> None:
    logs = first.folder / first.options.log_dir
    try:
        logs.mkdir(parents=True, exist_ok=True)  # Slurm makes no folders: it would drop the output
    except OSError as error:
        raise LatentWireError(f"log_dir={logs}: cannot be made ({error.strerror})") from None
    number = sbatch(first.script())
    print(f"submitted {first.entry.name} as job {number}, {first.options.tasks} task(s)")
    numbers = [number]
    for job in last:
        try:
            after = sbatch(job.script(after=number))
        except LatentWireError:
            subprocess.run(["scancel", number], check=False)
            print(f"cancelled job {number}: what was to follow it is refused")
            raise
        print(f"submitted {job.entry.name} as job {after}, when job {number} has succeeded")
        numbers.append(after)
    print(f"watch:  squeue --job {','.join(numbers)}")
    print(f"logs:   {logs / f'{first.name}-{number}_*.log'}")
    print(f"cancel: scancel {' '.join(numbers)}")


def sbatch(script: str) -> str:
    """Submit a script; the job's number. Raises LatentWireError with Slurm's own reason."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable"],
            input=script,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=SBATCH_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise LatentWireError(
            "sbatch is not on this machine: submit on a login node of the cluster, or see the"
            " script with --dry-run"
        ) from None
    except OSError as error:
        raise LatentWireError(f"sbatch cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LatentWireError(
            f"sbatch did not answer within {SBATCH_TIMEOUT_S} s: see with squeue whether the job"
            " is queued before you submit again"
        ) from None
    if done.returncode != 0:
        lines = [line.removeprefix("sbatch: ") for line in done.stderr.splitlines() if line]
        reason = "; ".join(line.removeprefix("error: ") for line in lines)
        raise LatentWireError(f"sbatch refused the job: {reason or 'it gave no reason'}")
    number = done.stdout.strip().partition(";")[0]  # behind it: the cluster, where there are many
    if not number.isdigit():
        raise LatentWireError(
            f"sbatch answered {quoted(done.stdout.strip())} in place of a job's number"
        )
    return number


def python() -> str:
    """The interpreter that tasks run: the conda environment's, or the one that submits."""
    environment = path_of("CONDA_ENV_PATH")
    if environment is None:
        return sys.executable
    path = environment.absolute() / "bin" / "python"
    if not os.access(path, os.X_OK):
        raise LatentWireError(f"CONDA_ENV_PATH={environment}: there is no {path}; mend or unset it")
    return str(path)
