"""Small tensors of the host on their way to a device."""

import torch
from torch import Tensor


def on_device(values: Tensor, device: str | torch.device) -> Tensor:
    """`values` there, in their order among all that is asked of the device. Nothing waits: neither
    the host for work that the device still has to do, nor that work for these."""
    if torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
