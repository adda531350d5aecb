"""Kernels that look at the tensors of a cache, or take of them, whatever their codec is."""

from typing import Any

import torch
from torch import Tensor

from c2c.on_device import on_device
from latentwire.channel.kernels.pointer_stack import Stack, Tensors, on_their_device
from latentwire.channel.kernels.programs import largest, tuned, type_of

LOOKED_AT = 64  # keys that a program looks at together


def no_numbers(tensors: Tensors) -> Tensor:
    """Which rows of each of N tensors [B, H, T, D] hold NaN or infinity: bool [N, B]. Waits for no
    device."""
    from latentwire.channel.kernels import codec_math

    source = Stack.of(tensors)
    first = source.first
    rows, warps, _ = tuned(first.shape[-1])
    with torch.cuda.device_of(first):
        (addresses,) = on_their_device(first, source.addresses)
        found = largest(source, addresses, rows, warps, "layer")
    return found >= codec_math.NOT_FINITE.value


def take(tensors: Tensors, index: Tensor) -> Tensor:
    """Of N tensors [B, H, T, D] the tokens at `index`, int64 [L, B, K], whose list n % L is tensor
    n's: [N, B, H, K, D]."""
    return _taken(Stack.of(tensors), index.contiguous())


def reordered(tensors: Tensors, order: Tensor) -> Tensor:
    """Of N tensors [B, H, T, D] the tokens at `order`, int64 [K] on the host: [N, B, H, K, D]."""
    source = Stack.of(tensors)
    index = on_device(order, source.first.device)
    return _taken(source, index[None, None])


def _taken(source: Stack, index: Tensor) -> Tensor:
    from latentwire.channel.kernels import take_kernels

    first = source.first
    (addresses,) = on_their_device(first, source.addresses)
    batch, heads, _, head_dim = first.shape
    lists, listed, count = index.shape
    shape = len(source.tensors), batch, heads, count, head_dim
    taken = torch.empty(shape, dtype=first.dtype, device=first.device)
    rows, warps, _ = tuned(head_dim)
    tiles = len(source.tensors) * batch * heads * -(-count // rows)
    with torch.cuda.device_of(first):
        take_kernels.take[(tiles,)](
            addresses, index, taken, lists, listed, batch, heads, count, *first.stride()[:3],
            D=head_dim, ROWS=rows, TYPE=type_of(first.dtype), ALIGNED=source.aligned,
            num_warps=warps,
        )  # fmt: skip
    return taken


def attended(keys: Tensors, queries: Tensors, lengths: Tensor, window: int) -> Tensor:
    """Of L layers' keys [B, H, T, D] and queries [B, Hq, T, D] what each row's last `window` of its
    `lengths` (int64 [B]) tokens attend to in the mean, float32 [L, B, Hq, T]."""
    from latentwire.channel.kernels import look_kernels

    return _looked(look_kernels.attended, keys, queries, lengths, window, 1)[0]


def moments(keys: Tensors, queries: Tensors, lengths: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Likewise mean and variance of the logits of each token's key under those queries; what stands
    behind a row's tokens means nothing."""
    from latentwire.channel.kernels import look_kernels

    means, variances = _looked(look_kernels.moments, keys, queries, lengths, window, 2)
    return means, variances


def _looked(
    kernel: Any, keys: Tensors, queries: Tensors, lengths: Tensor, window: int, results: int
) -> list[Tensor]:
    """So many results of a kernel of `look_kernels`, float32 [L, B, Hq, T]."""
    key, query = Stack.of(keys), Stack.of(queries)
    first, asked = key.first, query.first
    batch, heads, tokens, head_dim = asked.shape
    shape = len(key.tensors), batch, heads, tokens
    out = [torch.empty(shape, device=first.device) for _ in range(results)]
    with torch.cuda.device_of(first):
        kernel[(len(key.tensors) * batch * heads,)](
            *on_their_device(first, key.addresses, query.addresses), lengths, *out, batch, heads,
            tokens, *first.stride()[:3], *asked.stride()[:3], GROUP=heads // first.shape[1],
            W=window, D=head_dim, BLOCK=LOOKED_AT, TYPE=type_of(first.dtype),
        )  # fmt: skip
    return out
