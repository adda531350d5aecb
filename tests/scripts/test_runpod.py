"""scripts/runpod.sh, as far as it goes without a fresh machine (scripts/try_runpod.sh has one)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from forked_python import write_python
from launched import the_launcher
from tests_support import ROOT

SCRIPT = ROOT / "scripts" / "runpod.sh"
BAD_INPUT = 2
NOTHING: Mapping[str, str] = {}


def runpod(
    volume: Path, *options: str, env: Mapping[str, str] = NOTHING, script: Path = SCRIPT
) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("MLFLOW_") and k not in ("HF_HOME", "C2C_CKPT_ROOT")
    }
    return subprocess.run(
        ["bash", str(script), "--volume", str(volume), *options],
        env={**clean, "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = done.stderr.splitlines()
    assert line.startswith("runpod: ")
    return line


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that only say that they were started."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--nonsense",), "there is no option '--nonsense'"),
        (("-P", "limit"), "-P takes NAME=VALUE, not 'limit'"),
        (("-P",), "-P needs a value"),
        (("-e", ""), "-e needs a value"),
    ],
)
def test_bad_options(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    done = runpod(tmp_path / "volume", *options)
    assert done.returncode == BAD_INPUT
    assert sentence in one_sentence(done)
    assert not (tmp_path / "volume").exists()


def test_an_unknown_entry_point_names_the_known_ones(tmp_path: Path) -> None:
    done = runpod(tmp_path, "-e", "m99")
    assert done.returncode == BAD_INPUT
    line = one_sentence(done)
    assert "there is no entry point 'm99'" in line
    assert " m0 " in line
    assert "_" not in line.split("only ")[1].split()[0]
    assert not (tmp_path / "venv").exists()


def test_a_volume_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("")
    done = runpod(tmp_path / "volume")
    assert done.returncode == 1
    assert "cannot be written" in one_sentence(done)


def test_without_a_checkout_a_repository_is_asked_for(tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "runpod.sh"
    alone.parent.mkdir()
    shutil.copy(SCRIPT, alone)
    done = runpod(tmp_path / "volume", script=alone)
    assert done.returncode == 1
    assert "--repository URL" in one_sentence(done)


def test_a_clone_that_fails_leaves_no_checkout(tmp_path: Path) -> None:
    alone = tmp_path / "runpod.sh"
    shutil.copy(SCRIPT, alone)
    done = runpod(tmp_path / "volume", "--repository", str(tmp_path / "none"), script=alone)
    assert done.returncode == 1
    line = one_sentence(done)
    assert "cloning" in line
    assert "does not exist" in line
    assert not (tmp_path / "volume" / "latentwire").exists()


def test_a_python_that_is_too_old_is_refused(tmp_path: Path, tools: Path) -> None:
    program(tools, "python3.8", "exit 1")
    done = runpod(tmp_path / "volume", env={"PYTHON": str(tools / "python3.8")})
    assert done.returncode == 1
    assert "is not a Python of 3.11 to 3.14" in one_sentence(done)


def test_a_failed_installation_says_why_and_leaves_no_stamp(tmp_path: Path, tools: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "venv" / "bin").mkdir(parents=True)
    (volume / "venv" / ".latentwire").write_text("of an older lock")
    program(
        volume / "venv" / "bin",
        "python",
        f'[ "$2 $3" = "pip install" ] && {{ echo "ERROR: no route to the index" >&2; exit 1; }}\n'
        '[ "$2" = pip ] && exit 0\n'
        f'exec {sys.executable} "$@"',
    )
    done = runpod(volume, "-e", "m0")
    assert done.returncode == 1
    assert "no route to the index" in one_sentence(done)
    assert not (volume / "venv" / ".latentwire").exists()
    assert (volume / "latentwire" / "MLproject").exists()


def test_a_checkout_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, tools: Path
) -> None:
    tar = shutil.which("tar")
    program(
        tools,
        "tar",
        # Others that write into this checkout meanwhile do not decide (1: a file changed).
        f'{tar} "$@"; [ $? -le 1 ] || exit 2\n'
        f'case "$*" in *-cf*) [ -e {tools}/once ] || {{ : >{tools}/once; exit 1; }} ;; esac',
    )
    path = f"{tools}:{os.environ['PATH']}"
    program(tools, "python", f'[ "$2" = venv ] && exit 1\nexec {sys.executable} "$@"')
    python = str(tools / "python")
    done = runpod(tmp_path / "volume", env={"PATH": path, "PYTHON": python})
    assert "making" in one_sentence(done)  # the step after the copy
    assert (tools / "once").exists()
    assert (tmp_path / "volume" / "latentwire" / "MLproject").exists()
    # One that never stops changing is taken as it is.
    program(
        tools, "tar", f'{tar} "$@" || [ $? -le 1 ] || exit 2\ncase "$*" in *-cf*) exit 1 ;; esac'
    )
    done = runpod(tmp_path / "changing", env={"PATH": path, "PYTHON": python})
    assert "making" in one_sentence(done)
    assert (tmp_path / "changing" / "latentwire" / "MLproject").exists()
    program(tools, "tar", "exit 1")
    done = runpod(tmp_path / "other", env={"PATH": path, "PYTHON": python})
    assert "could not be copied" in one_sentence(done)
    assert not (tmp_path / "other" / "latentwire").exists()


def test_an_installation_that_was_cut_off_is_made_again(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "volume" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "volume" / "venv" / "bin" / "python").symlink_to(sys.executable)
    program(
        tools,
        "python",
        f'[ "$2" = venv ] && {{ echo "asked for $3 $4"; exit 1; }}\nexec {sys.executable} "$@"',
    )
    done = runpod(tmp_path / "volume", "-e", "m0", env={"PYTHON": str(tools / "python")})
    assert done.returncode == 1
    assert f"asked for --clear {tmp_path}/volume/venv" in one_sentence(done)


@pytest.fixture
def installed(tmp_path: Path, tools: Path) -> Path:
    """A volume whose environment is this one, and where pip only says yes."""
    volume = tmp_path / "volume"
    bin_folder = volume / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    (volume / "venv" / ".latentwire").write_text("of an older lock")
    program(
        bin_folder,
        "python",
        f'[ "$2" = pip ] && exit 0\nPYTHONPATH="{volume}/latentwire:{volume}/latentwire/C2C" '
        f'exec {sys.executable} "$@"',
    )
    program(bin_folder, "mlflow", f'exec {bin_folder}/python -m mlflow "$@"')
    return volume


@pytest.mark.slow
def test_the_second_start_has_nothing_to_do(installed: Path) -> None:
    small = ("-e", "m0", "-P", "limit=2", "-P", "dataset=demo_facts", "-P", "pair=demo")
    offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    first = runpod(installed, *small, "-P", "device=cpu", env=offline)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "installing packages" in first.stdout
    assert "checkout: copying" in first.stdout
    for part in ("latentwire", "C2C", "entry_points"):  # an import might find it elsewhere
        files, copied = (
            {
                path.relative_to(folder)
                for path in (folder / part).rglob("*")
                if "pycache" not in str(path)
            }
            for folder in (ROOT, installed / "latentwire")
        )
        assert files and copied == files
    assert "5 finished chunks in the store, 5 from this start, the first of them" in first.stdout
    assert (installed / "mlflow.db").exists()
    assert list(installed.glob("mlruns/**/records.jsonl"))
    # The checkout has run with imports of its own; what finds all there is started quicker.
    write_python(installed / "venv" / "bin" / "python", the_launcher())
    second = runpod(installed, *small, "-P", "device=cpu", env=offline)
    assert second.returncode == 0, second.stdout + second.stderr
    for what in ("system packages", "checkout", "Python environment", "models and fuser of demo"):
        assert f"runpod: {what}: already there" in second.stdout
    assert "5 finished chunks in the store, 0 from this start" in second.stdout


@pytest.mark.slow
def test_wrong_parameters_stop_before_the_run(installed: Path) -> None:
    done = runpod(installed, "-e", "m0", "-P", "kv_bits=4")
    assert done.returncode == 1
    assert "m0 has no parameter kv_bits" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (installed / "mlflow.db").exists()
