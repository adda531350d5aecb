"""Time that a device has really spent: GPU work is asynchronous."""

import time

import torch


def now_s(device: torch.device) -> float:
    """Seconds since some moment, once the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
