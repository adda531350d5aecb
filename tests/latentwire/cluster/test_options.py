"""What a job asks of Slurm: file, options, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.cluster.options import SlurmOptions, read_options
from latentwire.errors import LatentWireError

FILE = """
partition: gpu
time: 4:00:00
gres: gpu:h100:1
mem: 64G
cpus_per_task: 8
tasks: 4
warning_s: 120
sbatch: [--qos=long, --exclusive, --mem-per-cpu=1G, --time-min=5]
"""


def options(folder: Path, text: str, **given: str) -> SlurmOptions:
    file = folder / "slurm.yaml"
    file.write_text(text)
    return read_options(file, given)


def test_a_file_and_options_that_go_before_it(tmp_path: Path) -> None:
    made = options(tmp_path, FILE, tasks="8", account="me")
    assert (made.tasks, made.warning_s, made.restarts) == (8, 120, 100)
    assert made.directives() == [
        "--partition=gpu",
        "--account=me",
        "--time=4:00:00",  # which YAML would read as 14400, and sbatch then as ten days
        "--gres=gpu:h100:1",
        "--mem=64G",
        "--cpus-per-task=8",
        "--qos=long",
        "--exclusive",
        "--mem-per-cpu=1G",
        "--time-min=5",
    ]


def test_nothing_given_leaves_all_to_the_cluster() -> None:
    made = read_options(None, {})
    assert made.directives() == []
    assert made.tasks == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partitoin: gpu", "unknown key 'partitoin'; known: partition, "),
        ("tasks: 0", "tasks=0: must be a whole number of at least 1"),
        ("tasks: 1\ntasks: 2", "key 'tasks' stands twice"),
        ("mem: [1, 2]", "'mem' must be a single value"),
        ('mem: "1\\n2"', r"mem='1\n2': must be one line"),
        ("constraint: it's", "must be one line without quotes"),
        ("- gpu", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("sbatch: --qos=long", "'sbatch' must be a list"),
        ("sbatch: [-q long]", "must be --name or --name=value"),
        ("sbatch: [--array=0-9]", "sbatch option --array: the job script sets it itself"),
        ("sbatch: [--cpus-per-task=9]", "sbatch option --cpus-per-task: give it as cpus_per_task"),
        ("sbatch: [--wra=true]", "sbatch option --wra may mean --wrap: the job script sets it"),
        ("sbatch: [--exp=NONE]", "sbatch option --exp may mean --export: the job script sets it"),
        ("sbatch: [--outpu=x]", "sbatch option --outpu may mean --output: the job script sets it"),
        ("sbatch: [--part=x]", "sbatch option --part may mean --partition: give it as partition"),
        ("sbatch: [--no-r]", "sbatch option --no-r may mean --no-requeue"),
        ("sbatch: [--export-file=x]", "sbatch option --export-file: the job script sets it itself"),
        ("sbatch: [-a0-9]", "must be --name or --name=value"),
        ('sbatch: ["--qos=a\\n#SBATCH --wrap=x"]', "must be --name or --name=value"),
        ("log_dir: ~nosuch/x", "log_dir=~nosuch/x: the path ~nosuch/x begins with the home"),
        ("warning_s: 5", "warning_s=5: must be a whole number of at least 10"),
        ("a: b: c", "not YAML"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(LatentWireError) as caught:
        options(tmp_path, text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=r"none\.yaml: cannot be read"):
        read_options(tmp_path / "none.yaml", {})


@given(text=st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        made = read_options(file, {})
    except LatentWireError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(made, SlurmOptions)


@given(value=st.text(min_size=1, max_size=30))
def test_no_value_breaks_out_of_its_line(value: str) -> None:
    try:
        made = read_options(None, {"constraint": value})
    except LatentWireError:
        return
    assert all(len(line.splitlines()) == 1 for line in made.directives())
