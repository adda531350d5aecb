"""A codec on many tensors of one shape at once: by its kernel where there is one, else by its own
operations on the stack of them. To the bit the same as tensor by tensor."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from c2c import wide
from c2c.on_device import on_device
from latentwire.channel.codec import Codec, Shape
from latentwire.channel.kernels import launch
from latentwire.channel.kernels.launch import Encoded
from latentwire.channel.kernels.pointer_stack import Stack


def encode(codec: Codec, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Of N tensors [B, H, T, D] the bytes of each field, uint8 [N, B, length], and whether
    `codec.encode` may refuse one of them (bool []). Waits for no device."""
    groups = _alike(tensors)
    if not all(launch.supports(codec, tensors[places[0]]) for places in groups):
        return codec.encode_all(torch.stack([*tensors]))
    if len(groups) > 1:
        # As where keys are taken from their mean, in float32.
        found = [encode(codec, [tensors[place] for place in places]) for places in groups]
        parts = [torch.cat(own) for own in zip(*(own for own, _ in found), strict=True)]
        order = [place for places in groups for place in places]
        if order != sorted(order):
            back = on_device(torch.tensor(order).argsort(), tensors[0].device)
            parts = [part[back] for part in parts]
        return parts, torch.stack([doubt for _, doubt in found]).any()
    encoded = launch.encode(codec, tensors, check=False)
    assert encoded.doubt is not None
    return [encoded.scales.view(torch.uint8), encoded.codes], encoded.doubt


def decode(
    codec: Codec, parts: Sequence[Tensor], shape: Shape, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The tensors [N, B, H, T, D] in `dtype` of each field's bytes, uint8 [N, B, length] in memory
    of their own, and whether `codec.decode` may refuse one of them, or `dtype` not hold it (bool
    []). Waits for no device."""
    count, batch, _ = parts[0].shape
    whole = (count, batch, *shape)
    out = torch.empty(whole, dtype=dtype, device=parts[0].device)
    rule = launch.spec_of(codec)
    if rule is None or not launch.supports(codec, out[0]):
        return codec.decode_all(parts, shape, dtype)
    scales, codes = parts
    scales = scales.view(torch.float32 if rule.per_head else torch.float16)
    broken = torch.zeros(1, dtype=torch.int32, device=out.device)
    encoded = Encoded(codec, (batch, *shape), codes, scales)
    launch.decode(codec, encoded, Stack.within(out), broken)
    return out, broken[0] > 0


def round_trip(codec: Codec, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """What decoding what was encoded gives, of N tensors [B, H, T, D]."""
    if not (tensors[0].is_cuda and launch.supports(codec, tensors[0])):
        return [codec.round_trip(tensor) for tensor in tensors]
    # They differ where keys are taken from their mean, in float32, and values stay as they are.
    found: dict[int, Tensor] = {}
    for places in _alike(tensors):
        found |= zip(places, launch.round_trip(codec, [tensors[n] for n in places]), strict=True)
    return [found[place] for place in range(len(tensors))]


def take(tensors: Sequence[Tensor], index: Tensor) -> Sequence[Tensor]:
    """Of N tensors [B, H, T, D] the tokens at `index`, int64 [L, B, K], whose list n % L is tensor
    n's: [B, H, K, D] each."""
    if launch.readable(tensors[0]) and len(_alike(tensors)) == 1:
        return launch.take(tensors, index).unbind()
    lists, rows, _ = index.shape
    row = torch.arange(rows, device=index.device)[:, None, None]

    def taken(number: int, tensor: Tensor) -> Tensor:
        head = torch.arange(tensor.shape[1], device=index.device)[:, None]
        return wide.take(tensor, (row, head, index[number % lists][:, None]))

    return [taken(*each) for each in enumerate(tensors)]


def no_numbers(caches: Sequence[Sequence[Tensor]]) -> Tensor:
    """Which rows of C times N tensors [B, H, *, D] hold NaN or infinity, in any of the N: bool
    [C, B]. Waits for no device."""
    tensors = [tensor for each in caches for tensor in each]
    groups, found = _alike(tensors), []
    for places in groups:
        alike = [tensors[place] for place in places]
        if launch.readable(alike[0]):
            found.append(launch.no_numbers(alike))
        else:
            found.append(~torch.isfinite(torch.stack(list(map(_largest, alike)))))
    whole = torch.cat(found)
    if len(groups) > 1:
        order = torch.tensor([place for places in groups for place in places]).argsort()
        whole = whole[on_device(order, whole.device)]
    return whole.unflatten(0, (len(caches), -1)).any(1)


def _largest(tensor: Tensor) -> Tensor:
    """The largest magnitude of each row's numbers [B]; NaN where one is."""
    if tensor.is_cuda:  # one kernel
        return torch.linalg.vector_norm(tensor, torch.inf, (1, 2, 3))
    return torch.maximum(tensor.amax((1, 2, 3)), -tensor.amin((1, 2, 3)))  # in a tenth of the time


def _alike(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Places of tensors of one shape and type that lie in memory alike, as kernels want it."""
    found: dict[Hashable, list[int]] = {}
    for place, tensor in enumerate(tensors):
        found.setdefault((tensor.shape, tensor.stride(), tensor.dtype), []).append(place)
    return [*found.values()]
