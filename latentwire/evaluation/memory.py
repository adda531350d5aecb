"""A device's memory: how much can be planned with, and what to do when it runs out."""

import gc
import logging

import torch

from latentwire.errors import LatentWireError

log = logging.getLogger("latentwire")

# Without a GPU that says what it has: memory for one batch's caches.
PLAIN_BYTES = 2**28  # more does not stay in a processor's caches, and is slower
# What of a GPU's free memory is planned with; the rest is for fragments.
USABLE = 0.85


def usable_bytes(device: torch.device) -> int:
    """Memory to plan a batch with."""
    if device.type != "cuda":
        return PLAIN_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds and does not use is free too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free * USABLE)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device had not enough memory (MPS has no exception of its own for that)."""
    return isinstance(error, torch.OutOfMemoryError) or "backend out of memory" in str(error)


def free_cache(device: torch.device) -> None:
    """Return memory that nothing uses any more. A CPU's is neither planned with nor seen to run
    out, and to look through all objects of a process takes a second."""
    if device.type == "cpu":
        return
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def shrink_batch(device: torch.device, examples: int, conditions: int = 1) -> tuple[int, int]:
    """Examples and conditions to try after that many were too many: half of the examples, or of the
    conditions where a single example is too much. Raises LatentWireError where neither is left."""
    if examples == 1 and conditions == 1:
        raise LatentWireError(f"device {device} has not enough memory for a batch of one")
    if examples > 1:
        examples //= 2
    else:
        conditions = (conditions + 1) // 2
    under = f" under {conditions} conditions" if conditions > 1 else ""
    log.warning("out of memory: going on with %d examples%s at once", examples, under)
    return examples, conditions
