"""What a job asks of Slurm: from a small YAML file, and options that go before it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latentwire.errors import LatentWireError, quoted
from latentwire.parameters import Parameter, checked, int_at_least
from latentwire.strict_yaml import read_yaml
from latentwire.user_files import user_path

# What the job script cannot do without, or what has a name of its own here.
_OURS = (
    *("array", "requeue", "no-requeue", "signal", "output", "error", "open-mode", "chdir"),
    *("job-name", "export", "export-file", "nodes", "ntasks", "kill-on-invalid-dep", "wrap"),
    *("wait", "test-only", "help", "usage", "version"),
    *("partition", "account", "time", "gres", "constraint", "mem", "cpus-per-task"),
)
_OPTION = re.compile(r"--[a-z][a-z0-9-]*(=.+)?")


@dataclass(frozen=True)
class SlurmOptions:
    """Resources and habits of a job; an empty text leaves the choice to the cluster."""

    partition: str
    account: str
    time: str  # as sbatch takes it: minutes, or [days-]hours:minutes:seconds
    gres: str
    constraint: str
    mem: str
    cpus_per_task: int | None
    tasks: int  # array tasks; each is a job with these resources
    warning_s: int  # how long before the time limit a task stops and starts again
    restarts: int  # how often a task may requeue itself
    log_dir: Path
    sbatch: tuple[str, ...] = ()  # further options, each --name or --name=value

    def directives(self) -> list[str]:
        """The resources and further options, as sbatch takes them."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "time": self.time,
            "gres": self.gres,
            "constraint": self.constraint,
            "mem": self.mem,
            "cpus-per-task": "" if self.cpus_per_task is None else str(self.cpus_per_task),
        }
        return [*(f"--{name}={value}" for name, value in named.items() if value), *self.sbatch]


def one_line(text: str) -> str:
    """A text that sbatch reads the same in a script as on a command line."""
    if not text.isprintable() or any(mark in text for mark in "'\"\\"):
        raise ValueError("must be one line without quotes and backslashes")
    return text


def _optional_whole(text: str) -> int | None:
    return int_at_least(1)(text) if text else None


OPTIONS = (
    Parameter("partition", "", one_line, "partition to queue in"),
    Parameter("account", "", one_line, "account to charge"),
    Parameter("time", "", one_line, "time limit of a task: minutes, or hours:minutes:seconds"),
    Parameter("gres", "", one_line, "what a task gets beside CPUs, such as gpu:1"),
    Parameter("constraint", "", one_line, "features that a node must have"),
    Parameter("mem", "", one_line, "memory of a task, such as 64G"),
    Parameter("cpus_per_task", "", _optional_whole, "CPU cores of a task"),
    Parameter("tasks", "1", int_at_least(1), "array tasks, which divide the chunks among them"),
    Parameter(
        "warning_s", "60", int_at_least(10), "seconds before the time limit at which a task stops"
    ),
    Parameter("restarts", "100", int_at_least(0), "how often a task may requeue itself"),
    Parameter("log_dir", "outputs/slurm", lambda text: user_path(one_line(text)), "folder of logs"),
)


def read_options(
    file: Path | None, given: Mapping[str, str], sbatch: list[str] | None = None
) -> SlurmOptions:
    """The options of a YAML file (or none), with those `given` in their place; `sbatch` is added
    to the file's further options. Raises LatentWireError naming what is wrong."""
    texts, further = _from_file(file) if file else ({}, [])
    defaults = {option.name: option.default for option in OPTIONS}
    for name, text in (texts | dict(given)).items():
        if not text.isprintable():
            raise LatentWireError(f"{name}={quoted(text)}: must be one line")
    values = checked(OPTIONS, defaults | texts | dict(given))
    return SlurmOptions(**values, sbatch=tuple(_further(o) for o in [*further, *(sbatch or [])]))


def _from_file(file: Path) -> tuple[dict[str, str], list[str]]:
    values = read_yaml(file, typed=False)
    if not isinstance(values, dict):
        raise LatentWireError(f"{file}: must hold keys and values, such as 'partition: gpu'")
    further = values.pop("sbatch", [])
    if not isinstance(further, list) or not all(isinstance(option, str) for option in further):
        raise LatentWireError(f"{file}: 'sbatch' must be a list of options, such as [--qos=long]")
    known = [option.name for option in OPTIONS]
    for key, value in values.items():
        if key not in known:
            raise LatentWireError(
                f"{file}: unknown key {quoted(key)}; known: {', '.join(known)}, sbatch"
            )
        if not isinstance(value, str):
            raise LatentWireError(f"{file}: '{key}' must be a single value")
    return values, further


def _further(option: str) -> str:
    if not _OPTION.fullmatch(option):
        raise LatentWireError(f"sbatch option {quoted(option)}: must be --name or --name=value")
    name = option.removeprefix("--").partition("=")[0]
    # sbatch takes a part of a name for the whole: --wra for --wrap.
    if own := next((own for own in _OURS if own == name or own.startswith(name)), None):
        meant = "" if own == name else f" may mean --{own}"
        own = own.replace("-", "_")
        known = own in SlurmOptions.__dataclass_fields__
        hint = f"give it as {own}" if known else "the job script sets it itself"
        raise LatentWireError(f"sbatch option --{name}{meant}: {hint}")
    try:
        return one_line(option)
    except ValueError as error:
        raise LatentWireError(f"sbatch option {quoted(option)}: {error}") from None
