"""Small tensors on their way between host and device, for which nothing waits."""

from collections.abc import Callable

import torch
from torch import Tensor


def on_device(values: Tensor, device: str | torch.device) -> Tensor:
    """`values` there, in their order among all that is asked of the device. Nothing waits: neither
    the host for work that the device still has to do, nor that work for these."""
    if torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def on_host(values: Tensor) -> Callable[[], Tensor]:
    """Gives `values` on the host, and waits until the device has come to what was asked of it up to
    now; not for what is asked of it meanwhile."""
    if not values.is_cuda:
        return values.cpu
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copied.copy_(values, non_blocking=True)
    there = torch.cuda.Event()
    there.record(torch.cuda.current_stream(values.device))

    def arrived() -> Tensor:
        there.synchronize()
        return copied

    return arrived
