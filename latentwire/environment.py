"""What a run runs on: device, versions, hardware, caches and the state of the code."""

import ctypes
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentwire.errors import LatentWireError
from latentwire.parameters import AUTO
from latentwire.redaction import without_secrets

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "mlflow", "safetensors", "numpy")
SMALL_BYTES = 50 * 10**6  # of a pair's files; the bundled one's are 7 MB
VARIABLES = (
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "C2C_CKPT_ROOT", "CUDA_VISIBLE_DEVICES"),
    "OMP_NUM_THREADS",
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"),
)


# torch takes seconds to import: a start that computes nothing does without.


def describe() -> dict[str, Any]:
    """Everything that a reader needs to set the same up again, ready for JSON; of torch's threads
    and GPUs only where it has been imported, since nothing is computed without it."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu_cores": os.cpu_count(),
        **(_torch() if "torch" in sys.modules else {}),
        "variables": {
            name: without_secrets(os.environ[name]) for name in VARIABLES if name in os.environ
        },
        "git": {"commit": commit(), "changed_files": _git("status", "--porcelain").splitlines()},
    }


def device_kind(device: str) -> str:
    """What times depend on most: a GPU's name, or the kind of a device that is none of NVIDIA's."""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(device)
    return device.partition(":")[0]


def choose_device(name: str) -> str:
    """The device that `auto` means here; LatentWireError for one that is not there."""
    if name == "cpu" or (name == AUTO and not _may_have_gpu()):
        return "cpu"
    import torch

    cuda = torch.cuda.is_available()
    if name == AUTO:
        return "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        if not cuda or number >= torch.cuda.device_count():
            raise LatentWireError(
                f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices that"
                " torch can use; take device=cpu, or check driver and torch build"
            )
    if name == "mps" and not torch.backends.mps.is_available():
        raise LatentWireError("device=mps: torch finds no Apple GPU here; take device=cpu")
    return name


def _may_have_gpu() -> bool:
    """Whether torch may find a GPU, as far as can be told without it: False where it cannot, for
    there is no driver of NVIDIA's or AMD's, on which its CUDA and ROCm builds stand."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    if any(os.path.exists(device) for device in ("/dev/kfd", "/dev/dxg")):  # noqa: PTH110
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def choose_dtype(name: str, device: str) -> str:
    """The name of the dtype that a parameter means on a device."""
    if name == AUTO:
        return "bfloat16" if device.startswith("cuda") else "float32"
    return name


def torch_dtype(name: str) -> "torch.dtype":
    """The dtype of a name."""
    import torch

    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def fit_threads(files_bytes: int, device: str) -> None:
    """Compute models of so few bytes on one CPU thread: to share a step of theirs among threads
    costs several times what it saves. OMP_NUM_THREADS, where it is set, decides instead."""
    if device == "cpu" and files_bytes < SMALL_BYTES and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)


def commit() -> str:
    """The commit of the code, "unknown" outside a checkout."""
    return _git("rev-parse", "HEAD") or "unknown"


def _torch() -> dict[str, Any]:
    import torch

    return {
        "torch_threads": torch.get_num_threads(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def _gpu(index: int) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(index)
    capability = f"{found.major}.{found.minor}"
    return {"name": found.name, "memory_bytes": found.total_memory, "capability": capability}


@cache  # no package changes while a process runs, and each milestone's run asks
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    return output_of("git", *arguments, folder=Path(__file__).parent)


def output_of(*command: str, timeout_s: float = 10, folder: Path | None = None) -> str:
    """What a program prints; "" where it is not there, fails or does not end in time."""
    text: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, cwd=folder, timeout=timeout_s, check=False, **text)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return str(done.stdout).strip() if done.returncode == 0 else ""
