"""`latentwire submit` with an sbatch of our own that keeps what it is given."""

import os
import sys
from pathlib import Path

import pytest

from latentwire.cli import main

SBATCH = """#!/bin/sh
n=$(($(cat "{0}/count") + 1))
echo $n > "{0}/count"
cat > "{0}/script$n"
if [ -e "{0}/refuse$n" ]; then
  echo "sbatch: error: invalid partition specified: gpu" >&2
  echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
  exit 1
fi
echo "$n;cluster"
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in keeps script1, script2, ...; refuse1 makes it refuse the first."""
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "count").write_text("0")
    for name, text in (
        ("sbatch", SBATCH.format(folder)),
        ("scancel", f'#!/bin/sh\necho "$*" > "{folder}/cancelled"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    monkeypatch.delenv("CONDA_ENV_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def scripts(queue: Path) -> list[str]:
    return [path.read_text() for path in sorted(queue.glob("script*"))]


def test_a_job_and_m4_after_it(
    queue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", "/scratch/hugging face")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    (queue.parent / "slurm.yaml").write_text("gres: gpu:1\ntasks: 4\n")
    arguments = ["submit", "m3", "-P", "kv_bits=4", "-P", "pair=demo", "-P", "output_dir=curves"]
    assert main([*arguments, "--config", "slurm.yaml", "--then", "m4"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("submitted m3 as job 1, 4 task", "squeue --job 1,2", "scancel 1 2"):
        assert words in out
    first, second = scripts(queue)
    assert f"exec {sys.executable} " in first
    assert "entry_points/run.py m3 --kv-bits=4 --pair=demo\n" in first
    assert "export MLFLOW_TRACKING_URI=http://server:5000\n" in first
    assert "export HF_HOME='/scratch/hugging face'\n" in first
    assert "export MLFLOW_EXPERIMENT_ID=7\n" in first
    assert "#SBATCH --array=0-3\n" in first
    assert "entry_points/run.py m4 --pair=demo --output-dir=curves\n" in second
    assert "#SBATCH --array=0-0\n" in second
    assert "#SBATCH --dependency=afterok:1\n" in second
    assert (queue.parent / "outputs" / "slurm").is_dir()


def test_a_dry_run_shows_the_script_and_does_nothing(
    queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "m3", "--dry-run", "--partition", "gpu", "--sbatch=--qos=long"]) == 0
    shown = capsys.readouterr().out
    assert "#SBATCH --partition=gpu\n#SBATCH --qos=long\n" in shown
    assert scripts(queue) == []
    assert not (queue.parent / "outputs").exists()


def test_a_password_is_never_written_down(
    queue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/runs")
    assert main(["submit", "m0"]) == 0
    assert "secret" not in "".join([*scripts(queue), *capsys.readouterr()])


def test_the_conda_environments_python(
    queue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = queue.parent / "env"
    monkeypatch.setenv("CONDA_ENV_PATH", str(environment))
    assert main(["submit", "m0"]) == 2
    assert f"there is no {environment}/bin/python" in capsys.readouterr().err
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    assert main(["submit", "m0"]) == 0
    assert f"exec {environment}/bin/python " in scripts(queue)[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["m99"], "unknown entry point 'm99'; known: baselines, calibrate, "),
        (["m2", "-P", "kv_bits=abc"], "kv_bits=abc: must be one of"),
        (["m2", "-P", "keep_ratio=1"], "m2 has no parameter 'keep_ratio'"),
        (["m2", "-P", "kv_bits"], "parameter 'kv_bits': must be name=value"),
        (["m2", "-P", "seed=1", "-P", "seed=2"], "parameter seed is given twice"),
        (["m2", "-P", "pair=nobody"], "unknown pair 'nobody'"),
        (["m2", "-P", "source=both", "--then", "m5"], "invalid choice: 'm5'"),
        (
            ["m4", "--tasks", "2"],
            "tasks=2: every task would do all of m4; only baselines, m0,",
        ),
        (["m2", "--tasks", "none"], "tasks=none: must be a whole number"),
        (["m2", "--sbatch=--array=1-3"], "the job script sets it itself"),
        (["m2", "--config", "none.yaml"], "none.yaml: cannot be read"),
        (["m2", "--log-dir", "queue/sbatch"], "cannot be made"),
    ],
)
def test_what_is_wrong_never_reaches_the_queue(
    queue: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    try:
        status = main(["submit", *arguments])
    except SystemExit as stopped:  # by argparse
        status = int(str(stopped.code))
    assert status == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert scripts(queue) == []


def test_slurms_own_reason_is_shown(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (queue / "refuse1").touch()
    assert main(["submit", "m0"]) == 2
    assert capsys.readouterr().err == (
        "error: sbatch refused the job: invalid partition specified: gpu;"
        " Batch job submission failed: Invalid partition name specified\n"
    )


def test_a_job_goes_with_the_one_that_was_to_follow_it(
    queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (queue / "refuse2").touch()
    assert main(["submit", "m0", "--then", "m4"]) == 2
    assert (queue / "cancelled").read_text() == "1\n"
    assert "cancelled job 1" in capsys.readouterr().out


def test_without_slurm_it_is_one_sentence(
    queue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(queue.parent))
    assert main(["submit", "m0"]) == 2
    assert capsys.readouterr().err.startswith("error: sbatch is not on this machine: submit on")
