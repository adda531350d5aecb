"""A codec on many tensors of one shape at once: by its kernel where there is one, else by its own
operations on the stack of them. To the bit the same as tensor by tensor."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from c2c import wide
from c2c.on_device import on_device
from latentwire.channel.codec import Codec, not_finite
from latentwire.channel.kernels import launch, on_caches
from latentwire.channel.kernels.means import Means
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.programs import readable
from latentwire.channel.kernels.room import LEAST, Room
from latentwire.channel.payload_order import Group


def encode(
    group: Group,
    tensors: Sequence[Tensor] | Tensor,
    out: Tensor,
    broken: Tensor,
    means: Means | None = None,
) -> None:
    """Write a group's N tensors [B, H, T, D], or the parts of one [N, B, H, T, D], their means
    taken, where they stand in payloads uint8 [B, bytes]. Sets `broken` (int32 [1]) where their
    codec may refuse one. Waits for no device."""
    codec = group.codec
    alike = [range(len(tensors))] if isinstance(tensors, Tensor) else _alike(tensors)
    if not all(launch.supports(codec, tensors[places[0]]) for places in alike):
        moved = [*tensors] if means is None else means.moved([*tensors], torch.sub)
        parts, doubt = codec.encode_all(torch.stack(moved))
        group.write(parts, out)
        broken |= doubt
        return
    room = there = group.room(out)
    if there.word % LEAST:
        room = Room.new(codec, len(tensors), len(out), group.shape, out.device)
    for places in alike:
        stack = _stack(tensors, places)
        launch.encode(codec, stack, room.of(places), broken, means and means.of(places))
    if room is not there:
        group.write(room.parts(codec, group.shape), out)


def decode(
    group: Group,
    data: Tensor,
    dtype: torch.dtype,
    broken: Tensor,
    means: Means | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """A group's tensors [N, B, H, T, D] in `dtype`, out of payloads uint8 [B, bytes], their means
    added in float32: in new memory, or `into` such memory, with D contiguous.
    Sets `broken` (int32 [1]) where their codec may refuse one, or `dtype` not hold it. Waits for no
    device."""
    codec = group.codec
    shape = len(group.sites), len(data), *group.shape
    found = torch.empty(shape, dtype=dtype, device=data.device) if into is None else into
    room = group.room(data)
    if room.word % LEAST or not launch.supports(codec, found[0]):
        own = torch.float32 if means else dtype
        x, doubt = codec.decode_all(group.read(data), group.shape, own)
        if means:
            x = torch.stack(means.moved(x.unbind(), torch.add)).to(dtype)
            doubt = doubt | not_finite(x)
        broken |= doubt
        return x if into is None else into.copy_(x)
    launch.decode(codec, room, Stack.within(found), broken, means)
    return found


def round_trip(
    codec: Codec, tensors: Sequence[Tensor], means: Means | None = None
) -> Sequence[Tensor]:
    """What decoding what was encoded gives, of N tensors [B, H, T, D]; means are taken before and
    added behind, in float32."""
    if all(map(codec.keeps, {tensor.dtype for tensor in tensors})):
        return tensors
    if tensors[0].is_cuda and launch.supports(codec, tensors[0]):
        found: dict[int, Tensor] = {}
        for places in _alike(tensors):
            own = _stack(tensors, places)
            arrived = launch.round_trip(codec, own, means=means and means.of(places))
            found |= zip(places, arrived, strict=True)
        return [found[place] for place in range(len(tensors))]
    if means is None:
        return [codec.round_trip(tensor) for tensor in tensors]
    still = means.moved(tensors, torch.sub)
    moved = means.moved([codec.round_trip(tensor) for tensor in still], torch.add)
    return [tensor.to(like.dtype) for tensor, like in zip(moved, tensors, strict=True)]


def take(tensors: Sequence[Tensor], index: Tensor) -> Sequence[Tensor]:
    """Of N tensors [B, H, T, D] the tokens at `index`, int64 [L, B, K], whose list n % L is tensor
    n's: [B, H, K, D] each."""
    if readable(tensors[0]) and len(_alike(tensors)) == 1:
        return on_caches.take(Stack.alike(tensors), index).unbind()
    lists, rows, _ = index.shape
    row = torch.arange(rows, device=index.device)[:, None, None]

    def taken(number: int, tensor: Tensor) -> Tensor:
        head = torch.arange(tensor.shape[1], device=index.device)[:, None]
        return wide.take(tensor, (row, head, index[number % lists][:, None]))

    return [taken(*each) for each in enumerate(tensors)]


def reordered(tensors: Sequence[Tensor] | Tensor, order: Tensor) -> Tensor:
    """Of N tensors [B, H, T, D], or the parts of one [N, B, H, T, D], the tokens at `order`, int64
    [K] on the host: [N, B, H, K, D]."""
    alike = isinstance(tensors, Tensor) or len(_alike(tensors)) == 1
    if alike and readable(tensors[0]):
        return on_caches.reordered(_stack(tensors, range(len(tensors))), order)
    whole = tensors if isinstance(tensors, Tensor) else torch.stack([*tensors])
    return whole.index_select(3, on_device(order, whole.device))


def _stack(tensors: Sequence[Tensor] | Tensor, places: Sequence[int]) -> Stack:
    """Of those that lie alike at some places; of a tensor's parts all."""
    if isinstance(tensors, Tensor):
        return Stack.within(tensors)
    return Stack.alike([tensors[place] for place in places])


def no_numbers(caches: Sequence[Sequence[Tensor]]) -> Tensor:
    """Which rows of C times N tensors [B, H, *, D] hold NaN or infinity, in any of the N: bool
    [C, B]. Waits for no device."""
    tensors = [tensor for each in caches for tensor in each]
    groups, found = _alike(tensors), []
    for places in groups:
        alike = [tensors[place] for place in places]
        if readable(alike[0]):
            found.append(on_caches.no_numbers(Stack.alike(alike)))
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


def _alike(tensors: Sequence[Tensor]) -> list[Sequence[int]]:
    """Places of tensors of one shape and type that lie in memory alike, as kernels want it."""
    shape, steps, dtype = tensors[0].shape, tensors[0].stride(), tensors[0].dtype
    if all(x.stride() == steps and x.dtype == dtype and x.shape == shape for x in tensors):
        return [range(len(tensors))]
    found: dict[Hashable, list[int]] = {}
    for place, tensor in enumerate(tensors):
        found.setdefault((tensor.shape, tensor.stride(), tensor.dtype), []).append(place)
    return [*found.values()]
