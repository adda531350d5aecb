"""The device: can torch use it, and is there memory for the pair?"""

import psutil
import torch

from latentwire.checks.report import CheckWarning
from latentwire.environment import output_of
from latentwire.errors import LatentWireError
from latentwire.evaluation.memory import out_of_memory

# Beside the weights: the device's own context, the caches of a small batch, what lies between.
WORKING_BYTES = {"cuda": 2_000_000_000, "cpu": 500_000_000, "mps": 1_000_000_000}
DRIVER_TIMEOUT_S = 15


def check_device(device: str, dtype: torch.dtype, ask_driver: bool) -> str:
    """Compute something on the device. With `ask_driver`, name NVIDIA's driver, and doubt a CPU
    that stands beside a GPU that torch cannot use.

    Raises LatentWireError for a device that does not compute.
    """
    try:
        if float(torch.ones(2, device=device, dtype=dtype).sum()) != 2:
            raise LatentWireError(f"{device} computes 1 + 1 wrong")
    except RuntimeError as error:
        reason = "it has no memory left" if out_of_memory(error) else str(error).split("\n")[0]
        raise LatentWireError(f"{device} cannot be used by torch: {reason}") from None
    name = str(dtype).removeprefix("torch.")
    driver = nvidia_driver() if ask_driver else None
    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_name(device)
        told = f", driver {driver}" if driver else ""
        return f"{gpu}{told}, CUDA {torch.version.cuda}, {name}"
    if driver:
        raise CheckWarning(
            f"{device}, though an NVIDIA GPU with driver {driver} is here: torch"
            f" {torch.__version__} finds {torch.cuda.device_count()} CUDA devices"
        )
    return f"{device}, {torch.get_num_threads()} threads, {name}"


def nvidia_driver() -> str | None:
    """The driver's version, as nvidia-smi tells it; None without an NVIDIA GPU."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return next(iter(output_of(*command, timeout_s=DRIVER_TIMEOUT_S).split()), None)


def check_memory(device: str, weights_bytes: int | None, whole: bool = True) -> str:
    """Free memory against the pair's weights in the dtype asked for, and room to work.

    `weights_bytes` is None where nothing of it is known; with `whole` false it is less than all.

    Raises LatentWireError where not even the weights fit, and CheckWarning where they only just do.
    """
    free, total = memory(device)
    told = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if weights_bytes is None:
        raise CheckWarning(f"{told}; what the pair needs is known only when its files are here")
    needed = weights_bytes + WORKING_BYTES[device.partition(":")[0]]
    least = "" if whole else "at least "
    told += f", the pair's weights take {least}{weights_bytes / 1e9:.2f} GB"
    if free < weights_bytes:
        raise LatentWireError(told)
    if free < needed:
        raise CheckWarning(
            f"{told} and work needs about {(needed - weights_bytes) / 1e9:.1f} GB more"
        )
    return told


def memory(device: str) -> tuple[int, int]:
    """Free and total memory of a device, bytes. Where it has none of its own: the machine's."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return free, total
    found = psutil.virtual_memory()
    return found.available, found.total
