"""The tasks by name. A new one is its own file and one line here."""

from importlib import import_module
from pathlib import Path

from latentwire.errors import LatentWireError
from latentwire.suggestion import did_you_mean
from latentwire.tasks.dataset import Dataset, build_dataset
from latentwire.tasks.file_kinds import kind_of_name
from latentwire.tasks.rows import Source
from latentwire.tasks.task import Task

QuestionSet = str | Dataset
"""A known task's set, by its name, or a user's own, which is read where its file is named."""

# A task's file is called as it is.
_FILES = (
    "openbookqa",
    "arc_c",
    "arc_e",
    "commonsense_qa",
    "demo_facts",
    "demo_graded",
    "demo_private",
    "xquad",
    "openbookqa_fact",
    "boolq",
    "squad",
    "hotpotqa",
    "mmlu",
    "mmlu_redux",
    "piqa",
    "gsm8k",
)
TASKS: dict[str, Task] = {name: import_module(f"latentwire.tasks.{name}").TASK for name in _FILES}

# As which task each kind of a user's own sets is asked and scored.
AS_TASK = {"multiple_choice": "openbookqa", "extractive": "squad", "number": "gsm8k"}
STUDIED = ("openbookqa", "arc_c")  # whose answers the published study has


def task_names() -> tuple[str, ...]:
    """Every name that `task_named` knows."""
    return tuple(TASKS)


def task_named(name: str) -> Task:
    """A task; LatentWireError for an unknown name."""
    if name not in TASKS:
        raise LatentWireError(
            f"unknown dataset {name!r}; known: {', '.join(TASKS)}, or give a file of questions"
            f"{did_you_mean(name, TASKS)}"
        )
    return TASKS[name]


def task_of_records(dataset: str) -> Task:
    """By which task answers were recorded; of a dataset that is not known, by what its name says.

    Stores are read that earlier or other versions wrote, or that hold answers to a user's own sets.
    """
    return TASKS.get(dataset) or TASKS[AS_TASK[kind_of_name(dataset)]]


def load_dataset(name: QuestionSet, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Read a task's test split: scored examples in order; a user's own set has been read.

    `data_dir` is a folder of JSON lines in the hub's schema, laid out as the hub names its parts
    (`openbookqa/test.jsonl`, `ai2_arc/ARC-Challenge/test.jsonl`). Without one, published sets come
    from the Hugging Face hub or its cache. Published sets are checked against their row counts and
    a content hash either way. With `download` false the hub is not asked, only its cache.

    Raises `LatentWireError` for an unknown name, and for a set that cannot be had, is malformed or
    is not the published one; as `NotCached` for one that is only not in the cache.
    """
    if isinstance(name, Dataset):
        return name
    task = task_named(name)
    rows, place = task.test.read(data_dir, download)
    return build_dataset(task, rows, place, expected=task.test.expected)


def load_training(
    name: QuestionSet, data_dir: Path | None = None, download: bool = True
) -> Dataset:
    """Questions of a task that are never scored, from its training split (the bundled sets have a
    development split instead); otherwise as `load_dataset`."""
    task = name.task if isinstance(name, Dataset) else task_named(name)
    return _split(task, task.training, data_dir, download)


def load_validation(
    name: QuestionSet, data_dir: Path | None = None, download: bool = True
) -> Dataset | None:
    """Questions of a task that are neither scored nor trained on; None where it has no such split.
    Otherwise as `load_dataset`."""
    task = name.task if isinstance(name, Dataset) else task_named(name)
    source = task.validation
    return _split(task, source, data_dir, download) if source else None


def load_development(
    name: QuestionSet, data_dir: Path | None = None, download: bool = True
) -> Dataset | None:
    """Questions of a task to choose by, never scored: made for that, or its validation split; None
    where it has neither. Otherwise as `load_dataset`."""
    task = name.task if isinstance(name, Dataset) else task_named(name)
    source = task.development or task.validation
    return _split(task, source, data_dir, download) if source else None


def _split(task: Task, source: Source, data_dir: Path | None, download: bool) -> Dataset:
    rows, place = source.read(data_dir, download)
    return build_dataset(task, rows, place, source.label, source.expected)


def published_examples(name: str) -> int | None:
    """How many scored examples a published set has; None for a bundled one, always here."""
    expected = task_named(name).test.expected
    return expected.scored if expected else None


def pinned_hash(name: str) -> str | None:
    """The content hash that a published set is checked against whenever it is read; None for a
    set that is not pinned, or unknown."""
    expected = TASKS[name].test.expected if name in TASKS else None
    return expected.hash if expected else None
