"""`mlflow run` in environments that it makes itself, in a clean home with clean caches."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests_support import ROOT, Project

pytestmark = pytest.mark.environments

ALLOW_CUDA = "LATENTWIRE_ALLOW_CUDA_DOWNLOAD"
LOCK = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text()))
NOT_COPIED = (".venv", ".git", "mlruns", "mlflow.db*", "outputs", "__pycache__", ".*_cache")


class Clean:
    """A copy of the project, and an environment in which nothing was ever installed or cached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT, self.source, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (folder / "home").mkdir()
        uv = shutil.which("uv")
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "VIRTUAL_"))
        }
        self.env |= {
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "UV_CACHE_DIR": str(folder / "cache" / "uv"),
            "UV_NO_PROGRESS": "1",
            "MLFLOW_ENV_ROOT": str(folder / "envs"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            # Wheels beside the index, if pip is set up to take some: uv reads no pip settings.
            **find_links(),
            "PATH": ":".join(
                str(part)
                for part in (self.bin, Path(sys.executable).parent, uv and Path(uv).parent)
                if part
            )
            + ":/usr/local/bin:/usr/bin:/bin",
        }

    def run(self, *command: str, timeout_s: int = 1200) -> str:
        done = subprocess.run(
            command,
            cwd=self.source,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    def require_small_torch(self) -> None:
        """Skip where torch would come with CUDA: gigabytes, to run on a CPU."""
        if os.environ.get(ALLOW_CUDA):
            return
        self.run("uv", "venv", "--quiet", str(self.folder / "look"))
        printed = self.run(
            *("uv", "pip", "install", "--dry-run", "--no-cache", "-c", "constraints.txt", "torch"),
            *("--python", str(self.folder / "look")),
        )
        if "nvidia-" in printed:
            pytest.skip(f"pip has no CPU build of torch set up here; {ALLOW_CUDA}=1 takes CUDA's")

    def check_versions(self) -> None:
        """The environment that MLflow made holds the lock's versions and nothing of its own."""
        (python,) = (self.folder / "envs").glob("*/bin/python")
        listed = json.loads(
            self.run("uv", "pip", "list", "--format", "json", "--quiet", "--python", str(python))
        )
        versions = {p["name"].replace("_", "-").lower(): p["version"] for p in listed}
        locked = {name.replace("_", "-").lower(): version for name, version in LOCK.items()}
        for name, version in versions.items():
            if name not in ("pip", "setuptools", "triton") and not name.startswith(
                ("nvidia", "cuda")
            ):
                assert version.split("+")[0] == locked[name], name
        assert {"torch", "mlflow", "transformers"} <= set(versions)


def find_links() -> dict[str, str]:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
    )
    links = asked.stdout.strip() or os.environ.get("PIP_FIND_LINKS", "")
    return {"PIP_FIND_LINKS": links, "UV_FIND_LINKS": links} if links else {}


def installed_minor(pyenv: str) -> str | None:
    """A full version of the Python that conda.yaml names, if pyenv has one."""
    has = subprocess.run(
        [pyenv, "versions", "--bare"], capture_output=True, text=True
    ).stdout.split()
    return next((v for v in has if re.fullmatch(rf"{re.escape(wanted_python())}\.\d+", v)), None)


def wanted_python() -> str:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    (python,) = [
        d.split("=")[1]
        for d in environment["dependencies"]
        if isinstance(d, str) and d.startswith("python=")
    ]
    return str(python)


@pytest.mark.parametrize("manager", ["local", "uv", "virtualenv"])
def test_mlflow_run(manager: str, tmp_path: Path) -> None:
    clean = Clean(tmp_path)
    if manager != "local":
        if shutil.which("uv") is None:
            pytest.skip("uv is not installed")
        clean.require_small_torch()
    if manager == "virtualenv":
        pyenv = shutil.which("pyenv")
        if pyenv is None or installed_minor(pyenv) is None:
            pytest.skip(f"pyenv with a Python {wanted_python()} is needed")
        # MLflow asks for the newest patch that pyenv could build; one that is built stands in.
        stand_in = clean.bin / "pyenv"
        stand_in.write_text(
            f'#!/bin/sh\n[ "$*" = "install --list" ] && exec {pyenv} versions --bare\n'
            f'exec {pyenv} "$@"\n'
        )
        stand_in.chmod(0o755)
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        clean.env["PYENV_ROOT"] = root
    elif manager == "uv":
        clean.env["UV_PYTHON_DOWNLOADS"] = "never"
        clean.env["PATH"] += f":{Path(sys._base_executable).parent}"  # type: ignore[attr-defined]
    clean.run(
        *(sys.executable, "-m", "mlflow", "run", ".", "-e", "m0", "--env-manager", manager),
        *("-P", "pair=demo", "-P", "dataset=demo_facts", "-P", "limit=2", "-P", "device=cpu"),
    )
    done = Project(tmp_path, clean.env["MLFLOW_TRACKING_URI"])
    assert {r.data.params["control"] for r in done.runs("chunk")} >= {"matched", "deranged", "zero"}
    assert len(done.runs("condition")) == 5
    if manager != "local":
        clean.check_versions()


def test_condas_pins_resolve_against_the_lock(tmp_path: Path) -> None:
    """conda hands its pip section to pip as a requirements file beside conda.yaml; so do we."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    (section,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert "-c constraints.txt" in section
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (tmp_path / "pip.txt").write_text("\n".join(section))
    done = subprocess.run(
        [
            *("uv", "pip", "compile", "pip.txt", "--python-version", wanted_python()),
            *("--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"),
            *("--no-header", "--no-annotate", "--quiet"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    locked = {name.replace("_", "-").lower(): version for name, version in LOCK.items()}
    for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)$", done.stdout):
        if not name.startswith(("nvidia-", "cuda-")) and name not in ("triton", "setuptools"):
            assert locked[name] == version, name
