"""Codecs as GPU kernels over all tensors of a cache at once; `supports` says for which.

Bytes and numbers are the reference's, bit for bit: `codec.encode`, `decode` and `round_trip` of
each tensor on a CPU. Where `supports` is False, callers use those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from c2c.quantize import EPS, largest_code
from c2c.triton_support import interpreted, kernels_run, power_of_two
from latentwire.channel import nf4, rotation
from latentwire.channel.block_scales import EPS as EPS16
from latentwire.channel.codec import NOT_FINITE, Codec, NumbersRefused, check_held
from latentwire.channel.fp8 import FP8
from latentwire.channel.grouped import Grouped
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.nf4 import NF4
from latentwire.channel.rotation import Rotation
from latentwire.channel.symmetric import Symmetric

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDTHS = (32, 64, 128, 256)  # head_dim: rows of a power of two, within a warp's threads
TILE = 4096  # numbers of one program
ROTATED_TILE = 8192  # the same, for the rotation
WARPS = 4
LOOKED_AT = 64  # keys that a program looks at together
SECTION = 16384  # numbers of a head that one program can hold, to read them once
WIDTH = {2: 16, 3: 32, 4: 16}  # channels of a part of a rotated row by bits: 3 bits fill words

Tensors = Sequence[Tensor] | Stack


@dataclass(frozen=True)
class KernelSpec:
    """What the kernels must know of a codec; names as in `codec_math` and `scale_kernels`."""

    name: str
    bits: int
    limit: float  # what the largest magnitude is divided by for the scale
    eps: float
    per_head: bool  # one float32 scale a head's section, else float16 ones a token
    group: int  # numbers that share a scale of a token; 0: all of head_dim
    per_unit: int = 0  # cells a unit, where many boundaries are looked up by cell
    levels: tuple[float, ...] = ()
    boundaries: tuple[float, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Codes and scales of N tensors [B, H, T, D], on their device, example by example as sent."""

    codec: Codec
    shape: tuple[int, int, int, int]
    codes: Tensor  # uint8 [N, B, bytes]; what lies past an example's own length is undefined
    scales: Tensor  # float32 [N, B, H], or float16 [N, B, H * T * groups] likewise
    lengths: Tensor | None = None  # int32 [B]: tokens of each example, T where None
    doubt: Tensor | None = None  # bool []: whether `codec.encode` may refuse one of them

    def payloads(self) -> list[list[bytes]]:
        """The payload of every tensor [N] and example [B], as `codec.encode` writes it."""
        batch, heads, tokens, _ = self.shape
        lengths = [tokens] * batch if self.lengths is None else self.lengths.tolist()
        codes, scales = self.codes.cpu().numpy(), self.scales.cpu().numpy()
        groups = scales.shape[-1] // (heads * tokens)
        per_head = self.scales.dtype == torch.float32
        row = codes.shape[-1] // (heads * tokens)

        def payload(tensor: int, example: int) -> bytes:
            rows = heads * min(lengths[example], tokens)
            own = scales[tensor, example]
            sent = own.astype("<f4") if per_head else own[: rows * groups].astype("<f2")
            return sent.tobytes() + codes[tensor, example, : rows * row].tobytes()

        return [[payload(n, b) for b in range(batch)] for n in range(len(codes))]


def spec_of(codec: Codec) -> KernelSpec | None:
    """The kernels' rule for a codec, None where they have none."""
    if isinstance(codec, Symmetric) and codec.bits in (4, 8) and codec.axis == "head":
        return KernelSpec("integer", codec.bits, float(largest_code(codec.bits)), EPS, True, 0)
    if isinstance(codec, Grouped) and codec.bits in (4, 8):
        limit = float(largest_code(codec.bits))
        return KernelSpec("integer", codec.bits, limit, EPS16, False, codec.size)
    if isinstance(codec, NF4):
        return KernelSpec("nf4", 4, 1.0, EPS16, False, nf4.SIZE, 16, nf4.LEVELS, nf4.MIDDLES)
    if isinstance(codec, FP8):
        name = "e4m3" if codec.dtype == torch.float8_e4m3fn else "e5m2"
        return KernelSpec(name, 8, codec.largest_code, EPS, True, 0)
    if isinstance(codec, Rotation) and codec.bits in WIDTH:
        bits = int(codec.bits)
        levels, bounds = rotation.levels(bits), rotation.BOUNDARIES[bits]
        return KernelSpec("rotation", bits, 1.0, EPS16, False, 0, 0, levels, bounds)
    return None


def supports(codec: Codec, tensor: Tensor) -> bool:
    """Whether the kernels do this codec for tensors like this one [B, H, T, D]."""
    rule = spec_of(codec)
    return (
        rule is not None
        and readable(tensor)
        and tensor.shape[-1] % (rule.group or 1) == 0
        and tensor[0].numel() < 2**31  # offsets in an example's codes are of 32 bits
        and not (interpreted() and rule.name in ("e4m3", "e5m2"))  # it truncates to FP8
    )


def readable(tensor: Tensor) -> bool:
    """Whether the kernels read tensors like this one [B, H, T, D]."""
    return (
        kernels_run(tensor)
        and tensor.dtype in DTYPES
        and tensor.ndim == 4
        and tensor.shape[-1] in WIDTHS
        and tensor.stride(-1) == 1
        and tensor.numel() > 0
    )


def no_numbers(tensors: Tensors) -> Tensor:
    """Which rows of each of N tensors [B, H, T, D] hold NaN or infinity: bool [N, B]. Waits for no
    device."""
    from latentwire.channel.kernels import codec_math

    source = Stack.of(tensors)
    rows, warps, _ = _tuned(source.tensors[0].shape[-1])
    with torch.cuda.device_of(source.tensors[0]):
        found = _largest(source, None, rows, warps)
    return found.amax(2) >= codec_math.NOT_FINITE.value


def take(tensors: Tensors, index: Tensor) -> Tensor:
    """Of N tensors [B, H, T, D] the tokens at `index`, int64 [L, B, K], whose list n % L is tensor
    n's: [N, B, H, K, D]."""
    from latentwire.channel.kernels import take_kernels

    source = Stack.of(tensors)
    first = source.tensors[0]
    batch, heads, _, head_dim = first.shape
    lists, _, count = index.shape
    shape = len(source.tensors), batch, heads, count, head_dim
    taken = torch.empty(shape, dtype=first.dtype, device=first.device)
    rows, warps, _ = _tuned(head_dim)
    tiles = len(source.tensors) * batch * heads * -(-count // rows)
    with torch.cuda.device_of(first):
        take_kernels.take[(tiles,)](
            source.pointers, index.contiguous(), taken, lists, batch, heads, count,
            *first.stride()[:3], D=head_dim, ROWS=rows, TYPE=_type(first.dtype),
            ALIGNED=source.aligned, num_warps=warps,
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
    first, asked = key.tensors[0], query.tensors[0]
    batch, heads, tokens, head_dim = asked.shape
    shape = len(key.tensors), batch, heads, tokens
    out = [torch.empty(shape, device=first.device) for _ in range(results)]
    with torch.cuda.device_of(first):
        kernel[(len(key.tensors) * batch * heads,)](
            key.pointers, query.pointers, lengths, *out, batch, heads, tokens,
            *first.stride()[:3], *asked.stride()[:3], GROUP=heads // first.shape[1], W=window,
            D=head_dim, BLOCK=LOOKED_AT, TYPE=_type(first.dtype),
        )  # fmt: skip
    return out


def encode(
    codec: Codec,
    tensors: Tensors,
    lengths: Tensor | None = None,
    check: bool = True,
    **tuning: Any,
) -> Encoded:
    """Codes and scales of N tensors [B, H, T, D]; `lengths` (int32 [B]) are the valid tokens.

    Raises NumbersRefused for what `codec.encode` refuses in a valid row, for which it waits for the
    device; with `check` False it does neither, and `doubt` says it. `tuning`: see `_tuned` and
    `_parts`.
    """
    source = Stack.of(tensors)
    first = source.tensors[0]
    rule = _rule(codec, first)
    batch, heads, tokens, head_dim = first.shape
    count, device = len(source.tensors), first.device
    code_bytes = heads * tokens * head_dim * rule.bits // 8
    codes = torch.empty(count, batch, code_bytes, dtype=torch.uint8, device=device)
    if rule.per_head:
        scales = torch.empty(count, batch, heads, device=device)
    else:
        width = heads * tokens * (head_dim // (rule.group or head_dim))
        scales = torch.empty(count, batch, width, dtype=torch.float16, device=device)
    broken = torch.zeros(2, dtype=torch.int32, device=device)
    room = {"codes": codes, "scales": scales, "broken": broken}
    with torch.cuda.device_of(first):  # Triton launches on the current device, wherever tensors are
        _quantize(rule, source, None, lengths, room, **tuning)
    if check:
        not_finite, too_large = broken.tolist()
        if not_finite:
            raise NumbersRefused(NOT_FINITE)
        if too_large:
            check_held(scales * rule.limit, codec.name)
    shape: tuple[int, int, int, int] = tuple(first.shape)  # type: ignore[assignment]
    return Encoded(codec, shape, codes, scales, lengths, broken.any())


def round_trip(
    codec: Codec,
    tensors: Tensors,
    out: Tensors | None = None,
    lengths: Tensor | None = None,
    **tuning: Any,
) -> tuple[Tensor, ...]:
    """What decoding what was encoded gives, of N tensors [B, H, T, D], without making codes.

    Into `out` (any of DTYPES, also the tensors themselves) or new tensors of the same dtype; rows
    at and past an example's length become zeros. NaN and infinity are not looked for.
    """
    source = Stack.of(tensors)
    rule = _rule(codec, source.tensors[0])
    sink = Stack.empty_like(source) if out is None else Stack.of(out)
    _same_shape(source.tensors, sink)
    with torch.cuda.device_of(source.tensors[0]):
        _quantize(rule, source, sink, lengths, {}, **tuning)
    return sink.tensors


def decode(
    codec: Codec, encoded: Encoded, out: Tensors, broken: Tensor | None = None, **tuning: Any
) -> tuple[Tensor, ...]:
    """Fill `out` (N tensors [B, H, T, D] of any of DTYPES) with what `encoded` stands for.

    Sets `broken` (int32 [1]) where that holds a scale or a code that no encoder writes, NaN, or
    more than `out` holds.
    """
    sink = Stack.of(out)
    first = sink.tensors[0]
    rule = _rule(codec, first)
    if tuple(first.shape) != encoded.shape or len(sink.tensors) != len(encoded.codes):
        raise ValueError(f"{encoded.shape} was encoded, which does not fit in {first.shape}")
    if broken is None:
        broken = torch.zeros(1, dtype=torch.int32, device=first.device)
    with torch.cuda.device_of(first):
        _restore(rule, encoded, sink, broken, **tuning)
    return sink.tensors


def _restore(
    rule: KernelSpec, encoded: Encoded, sink: Stack, broken: Tensor, **tuning: Any
) -> None:
    first = sink.tensors[0]
    head_dim, device = first.shape[-1], first.device
    read = (sink.pointers, encoded.lengths, encoded.scales, encoded.codes, _table(rule, device))
    sizes = (*first.shape[:3], *first.stride()[:3], encoded.codes.shape[-1])
    types = {"SINK": _type(first.dtype), "SINK_ALIGNED": sink.aligned, "enable_fp_fusion": False}
    if rule.name == "rotation":
        from latentwire.channel.kernels import rotation_kernels

        parts = _parts(rule, head_dim, **tuning)
        flips = _flips(head_dim, parts["WIDTH"], device)
        # No coordinate is larger than the whole vector, and a rotation keeps that one's length.
        reach = 1.01 * rule.levels[-1] * head_dim**0.5
        held = {"EPS": rule.eps, "REACH": reach, "MOST": torch.finfo(first.dtype).max}
        rotation_kernels.restore[_grid(sink, parts["ROWS"])](
            *read, flips, broken, *sizes, **parts, **held, **types
        )
        return
    from latentwire.channel.kernels import scale_kernels

    rows, warps, _ = _tuned(head_dim, **tuning)
    scale_kernels.restore[_grid(sink, rows)](
        *read, broken, *sizes, **_shape_of(rule, head_dim, rows), **types, num_warps=warps
    )


def _quantize(
    rule: KernelSpec,
    source: Stack,
    sink: Stack | None,
    lengths: Tensor | None,
    room: dict[str, Tensor],
    **tuning: Any,
) -> None:
    first = source.tensors[0]
    last = first if sink is None else sink.tensors[0]
    head_dim, table = first.shape[-1], _table(rule, first.device)
    pointers = (source.pointers, None if sink is None else sink.pointers, lengths)
    sent = (room.get("scales"), room.get("codes"), table)
    code_bytes = room["codes"].shape[-1] if sink is None else 0
    sizes = (*first.shape[:3], *first.stride()[:3], *last.stride()[:3], code_bytes)
    types = {
        "EPS": rule.eps,
        "TYPE": _type(first.dtype),
        "SINK": _type(last.dtype),
        "ALIGNED": source.aligned,
        "SINK_ALIGNED": sink is not None and sink.aligned,
        "enable_fp_fusion": False,
    }
    if rule.name == "rotation":
        from latentwire.channel.kernels import rotation_kernels

        parts = _parts(rule, head_dim, **tuning)
        turned = (
            rotation.signs(head_dim, first.device),
            _flips(head_dim, parts["WIDTH"], first.device),
        )
        bounds = {"BOUNDS": rule.boundaries, "COUNT": len(rule.boundaries)}
        rotation_kernels.quantize[_grid(source, parts["ROWS"])](
            *pointers, *sent, *turned, room.get("broken"), *sizes, **parts, **bounds, **types
        )
        return
    from latentwire.channel.kernels import scale_kernels

    found, rows, warps, steps = _maxima(rule, source, lengths, **tuning)
    low, cells, _ = _cells(rule)
    levels = {"LEVELS": len(rule.levels), "PER_UNIT": rule.per_unit, "LOW": low}
    scale_kernels.quantize[_grid(source, rows)](
        *pointers, found, *sent, room.get("broken"), *sizes, **_shape_of(rule, head_dim, rows),
        **levels, CELLS=len(cells), CORRECTIONS=(2 if rule.per_head else 1) if steps else 0,
        **types, num_warps=warps,
    )  # fmt: skip


def _maxima(
    rule: KernelSpec, source: Stack, lengths: Tensor | None, **tuning: Any
) -> tuple[Tensor | None, int, int, bool]:
    """Bits of each head's largest magnitude, where a program cannot hold a whole head and finds
    it by itself; and `_tuned`."""
    *_, tokens, head_dim = source.tensors[0].shape
    rows, warps, steps = _tuned(head_dim, **tuning)
    if not rule.per_head:
        return None, rows, warps, steps
    whole = power_of_two(tokens)
    if whole * head_dim <= tuning.get("section", SECTION):
        return None, whole, max(warps, whole * head_dim // 2048), steps
    return _largest(source, lengths, rows, warps), rows, warps, steps


def _largest(source: Stack, lengths: Tensor | None, rows: int, warps: int) -> Tensor:
    """Bits of each head's largest magnitude, int32 [N, B, H]: in the order of the magnitudes, NaN
    last."""
    from latentwire.channel.kernels import scale_kernels

    first = source.tensors[0]
    shape = (len(source.tensors), *first.shape[:2])
    found = torch.zeros(shape, dtype=torch.int32, device=first.device)
    tiles = 4
    types = {"TYPE": _type(first.dtype), "ALIGNED": source.aligned}
    scale_kernels.maxima[_grid(source, rows * tiles)](
        source.pointers, lengths, found, *first.shape[:3], *first.stride()[:3],
        D=first.shape[-1], ROWS=rows, TILES=tiles, **types, num_warps=warps,
    )  # fmt: skip
    return found


def _grid(stack: Stack, rows: int) -> tuple[int]:
    """A program for so many tokens of each head."""
    batch, heads, tokens, _ = stack.tensors[0].shape
    return (len(stack.tensors) * batch * heads * -(-tokens // rows),)


def _parts(
    rule: KernelSpec,
    head_dim: int,
    tile: int = ROTATED_TILE,
    warps: int = WARPS,
    width: int = 0,
    **_others: Any,
) -> dict[str, Any]:
    """How a rotation's program holds its rows; see `rotation_kernels`."""
    width = min(width or WIDTH[rule.bits], head_dim)
    return {
        "ROWS": max(1, tile // head_dim),
        "WIDTH": width,
        "LOG_WIDTH": width.bit_length() - 1,
        "PARTS": head_dim // width,
        "LOG_PARTS": (head_dim // width).bit_length() - 1,
        "BITS": rule.bits,
        "NORM": head_dim**-0.5,
        "PLAIN": interpreted(),
        "num_warps": warps,
    }


@cache
def _flips(head_dim: int, width: int, device: torch.device) -> Tensor:
    """The rotation's signs, int32: for each part of `width` channels the bits of those at -1."""
    parts = (rotation.signs(head_dim, torch.device("cpu")) < 0).view(-1, width).tolist()
    bits = [sum(1 << channel for channel, flip in enumerate(part) if flip) for part in parts]
    return torch.tensor(bits, dtype=torch.int64, device=device).to(torch.int32)  # as its bits


def _tuned(
    head_dim: int, tile: int = TILE, warps: int = WARPS, steps: bool = True, section: int = SECTION
) -> tuple[int, int, bool]:
    """Rows and warps of a program, and whether it divides by corrections of a reciprocal.

    For measurements: `tile` numbers a program, heads of up to `section` numbers read at once.
    """
    return max(1, tile // head_dim), warps, steps and not interpreted()


def _shape_of(rule: KernelSpec, head_dim: int, rows: int) -> dict[str, Any]:
    return {
        "D": head_dim,
        "ROWS": rows,
        "GROUP": rule.group or head_dim,
        "BITS": rule.bits,
        "RULE": rule.name,
        "LIMIT": rule.limit,
        "SCALES": "head" if rule.per_head else "token",
    }


def _rule(codec: Codec, tensor: Tensor) -> KernelSpec:
    rule = spec_of(codec)
    if rule is None or not supports(codec, tensor):
        raise ValueError(f"there is no kernel for {codec.name} and {tensor.dtype} {tensor.shape}")
    return rule


def _same_shape(tensors: tuple[Tensor, ...], sink: Stack) -> None:
    if tensors[0].shape != sink.tensors[0].shape or len(tensors) != len(sink.tensors):
        raise ValueError("what goes in and what comes out differ in shape or number")


@cache
def _cells(rule: KernelSpec) -> tuple[int, tuple[float, ...], tuple[int, ...]]:
    """Number of the first cell (cell k lies around k / per_unit), each cell's boundary (infinity
    for none) and how many boundaries lie below it; nothing for a rule without cells."""
    if not rule.per_unit:
        return 0, (), ()
    first, last = (
        round(edge * rule.per_unit) for edge in (rule.boundaries[0], rule.boundaries[-1])
    )
    found, below = [], []
    for cell in range(first - 1, last + 2):
        low, high = (cell - 0.5) / rule.per_unit, (cell + 0.5) / rule.per_unit
        inside = [b for b in rule.boundaries if low <= b < high]
        # Rounding may take a number at a cell's edge to its neighbour: none has a boundary there.
        assert len(inside) <= 1 and all(min(b - low, high - b) > 1e-4 for b in inside)
        found.append(inside[0] if inside else float("inf"))
        below.append(sum(b < low for b in rule.boundaries))
    return first - 1, tuple(found), tuple(below)


@cache
def _table(rule: KernelSpec, device: torch.device) -> Tensor | None:
    """Levels by code with the cells behind them, where the rule has levels."""
    if not rule.levels:
        return None
    _, boundaries, below = _cells(rule)
    whole = torch.tensor(below, dtype=torch.int32).view(torch.float32)
    return torch.cat([torch.tensor([*rule.levels, *boundaries]), whole]).to(device)


def _type(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}[
        dtype
    ]
