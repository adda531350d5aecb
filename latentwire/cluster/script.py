"""The job script: what sbatch reads, then what every task of the array does."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentwire.cluster.options import SlurmOptions, one_line
from latentwire.errors import LatentWireError

TASK = Path(__file__).with_name("array_task.py")

# MLFLOW_RUN_ID would be that of a run that submitted: tasks make their own.
_PREPARE = """set -u
: "${MLFLOW_TRACKING_URI:?is not set: was it left behind by an export option?}"
unset MLFLOW_RUN_ID
export PYTHONUNBUFFERED=1
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"
fi
"""


def job_script(
    name: str,
    command: Sequence[str],
    options: SlurmOptions,
    environment: Mapping[str, str],
    folder: Path,
    after: str | None = None,
) -> str:
    """The script of an array job that runs `command` (a Python and its arguments) in `folder` in
    each of its tasks.

    `environment` is written down in it; all else that the submitter has set goes along too. With
    `after`, the job waits until every task of that job has succeeded, and is dropped if one fails.

    The job is an array even of one task, so that names of tasks and logs have one form. Later
    options win, so those that the script relies on stand last. The warning is USR1, since TERM is
    also what a cancelled job gets. Raises LatentWireError for a path that sbatch cannot be told.
    """
    logs = str(folder / options.log_dir / "%x-%A_%a.log")
    for path in (str(folder), logs):
        try:
            one_line(path)
        except ValueError as error:
            raise LatentWireError(f"folder {path!r}: {error}, to be used in a job") from None
    directives = [
        *options.directives(),
        f"--job-name={name}",
        f"--array=0-{options.tasks - 1}",
        *("--nodes=1", "--ntasks=1", "--export=ALL"),
        f"--chdir={folder}",
        f"--output={logs}",
        *("--open-mode=append", "--requeue"),
        f"--signal=B:USR1@{options.warning_s}",
        *([f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []),
    ]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *(f"#SBATCH {_directive(option)}" for option in directives),
            "",
            *(f"export {key}={shlex.quote(value)}" for key, value in environment.items()),
            _PREPARE,
            f"exec {shlex.join([command[0], str(TASK), str(options.restarts), *command])}",
            "",
        ]
    )


def _directive(option: str) -> str:
    name, equals, value = option.partition("=")
    return name + equals + (shlex.quote(value) if value else "")
