"""Transform coding of one example's tokens: rotate, round, entropy-code.

    z = (x - mean) basis                      x [F] is one token: all sent layers and heads
    code = clamp(round(z / step), -clip, clip)
    z' = step * sign(code) * (|code| - pull)  x' = z' basis^T + mean

Principal components carry unequal variance, so that one step for all leaves most codes zero, and
an entropy coder sends zeros for next to nothing. Components come in groups of neighbours that
share step, pull, clip and one table of symbol frequencies. `pull` moves the reconstruction from
the middle of a cell toward zero, where the density is higher.

Source: KVTC (arXiv:2511.01815), which has the transform, the allocation by dynamic programming and
an entropy coder after it; the static tables here replace its general-purpose compressor, whose
warm-up a packet of a dozen tokens would not repay. Both ends hold the tables (`transform_fit` makes
them), nothing of them is in the stream.

Stream: range coding (constriction's: 32-bit words, 64-bit state, probabilities of 24 bits) over
the groups in order, within a group over tokens, within a token over components. All codes together
narrow an interval of binary fractions; the stream is the smallest fraction of n bytes in it,
highest byte first, where n is the fewest of which every interval as wide holds one. The number of
tokens is not in it.

Data that is not what encoding its own codes gives is refused. A stream cut short or made longer is,
since its length follows from its codes: the zeros that stand in for missing bytes decode to codes
that would have taken more of them. (Not without exception: a cut that happens to end in likely
codes passes.) A changed bit mostly makes another stream just as good. Nothing in a dense code can
tell; the packet's checksum does.

All arithmetic on numbers is in float64 on the CPU, one example at a time, and is rounded to float32
once, at the end. Batches on another device (`codes`, `numbers`, `arrived`) are in float64 too, but
sums may be in another order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentwire.channel.codec import CodecError, check_finite
from latentwire.channel.range_stream import SYMBOL_BITS, Categorical, RangeEncoder, ending, opened

FREQUENCY_BITS = 16
TOTAL = 1 << FREQUENCY_BITS  # what the frequencies of one group sum to
MAX_CLIP = 1023
MAX_FEATURES = 1 << 20
ORTHONORMAL = 1e-3  # largest error of a column's length and of `PROBES`; float32 leaves about 1e-5
PROBES = 8
TOGETHER = 1 << 13  # tokens of a batch that are float64 at once: 200 MB of 3,072 features

_SLACK_BYTES = 8


@dataclass(frozen=True, eq=False)
class TransformTables:
    """What both ends know: R components of F features, in G groups. All tensors on the CPU."""

    mean: Tensor
    """[F] float32."""
    basis: Tensor
    """[F, R] float32, orthonormal columns. R = 0 sends nothing and reconstructs the mean."""
    sizes: Tensor
    """[G] int32, components in each group, in order; they sum to R."""
    step: Tensor
    """[G] float32, width of a cell in the features' unit."""
    pull: Tensor
    """[G] float32, 0 to 1/2: how far reconstructions lie toward zero, in steps."""
    clip: Tensor
    """[G] int32, 1 to MAX_CLIP: the largest code; what lies beyond saturates."""
    frequencies: Tensor
    """[sum(2 clip + 1)] int32: of codes -clip to clip, group after group, each sums to TOTAL."""

    def __post_init__(self) -> None:
        _check(self)

    def __getstate__(self) -> dict[str, Tensor]:
        """The fields alone: workers get tables too, and entropy models cannot be pickled."""
        return self.to_tensors()

    @property
    def features(self) -> int:
        """F."""
        return self.mean.shape[0]

    @property
    def components(self) -> int:
        """R."""
        return self.basis.shape[1]

    def to_tensors(self) -> dict[str, Tensor]:
        """All tables by name, as a safetensors file holds them."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "TransformTables":
        """Tables from what `to_tensors` gave; CodecError for anything that is not such tables."""
        names = {field.name for field in fields(cls)}
        if set(tensors) != names:
            odd = ", ".join(sorted(map(str, names ^ set(tensors))))
            raise CodecError(f"transform tables have missing or unknown parts: {odd}")
        return cls(**tensors)

    @cached_property
    def wide_mean(self) -> Tensor:
        """The mean in float64."""
        return self.mean.double()

    @cached_property
    def wide_basis(self) -> Tensor:
        """The basis in float64: converting it costs as much as using it."""
        return self.basis.double()

    def on(self, device: torch.device) -> "_Wide":
        """What numbers are computed with, on a device; made once for each."""
        if device not in self._made:
            rows = self.step, self.pull, self.clip
            parts = (self.wide_mean, self.wide_basis, *map(self.per_component, rows))
            self._made[device] = _Wide(*(part.to(device) for part in parts))
        return self._made[device]

    @cached_property
    def _made(self) -> "dict[torch.device, _Wide]":
        return {}

    @cached_property
    def spans(self) -> list[slice]:
        """The components of each group."""
        ends = self.sizes.cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes.tolist(), strict=True)]

    @cached_property
    def models(self) -> list[Any]:
        """Each group's entropy model. Frequencies below 2^16 are exact in every float type and
        their total is a power of two, so that both ends compute the same 24-bit probabilities."""
        rows = np.split(
            self.frequencies.numpy().astype(np.float64),
            (2 * self.clip.to(torch.int64) + 1).cumsum(0)[:-1].tolist(),
        )
        return [Categorical(row, perfect=False) for row in rows[: len(self.sizes)]]

    @cached_property
    def left_ends(self) -> Tensor:
        """Where in 2^SYMBOL_BITS each code begins in its group's model, int32: of each group
        2 clip + 2, the last the total. The formula of docs/WIRE.md, which is constriction's."""
        counts = (2 * self.clip.long() + 1).tolist()
        rows = [torch.zeros(0, dtype=torch.int64)]
        for part in self.frequencies.long().split(counts):
            before = torch.cat([part.new_zeros(1), part.cumsum(0)])
            spread = before * ((1 << SYMBOL_BITS) - len(part)) >> FREQUENCY_BITS
            rows.append(spread + torch.arange(len(part) + 1))
        return torch.cat(rows).int()

    def per_component(self, values: Tensor) -> Tensor:
        """Values [G] of the groups as float64 [R]."""
        return values.double().repeat_interleave(self.sizes.long())


class _Wide(NamedTuple):
    """Tables in float64, by component where they are by group."""

    mean: Tensor
    basis: Tensor
    step: Tensor
    pull: Tensor
    clip: Tensor

    def codes(self, x: Tensor) -> Tensor:
        """Whole numbers, float64 [T, R], of tokens [T, F]."""
        components = (x.double() - self.mean) @ self.basis
        return (components / self.step).round().clamp(-self.clip, self.clip)

    def numbers(self, codes: Tensor) -> Tensor:
        """The float32 tokens [T, F] that codes [T, R] stand for."""
        pulled = codes.sign() * (codes.abs() - self.pull)
        return ((pulled * self.step) @ self.basis.T + self.mean).float()


def encode(tables: TransformTables, x: Tensor) -> bytes:
    """The stream of one example [T, F], T >= 1; CodecError for NaN, infinity or another width."""
    return encode_codes(tables, quantize(tables, x))


def decode(tables: TransformTables, data: bytes | memoryview, tokens: int) -> Tensor:
    """The float32 matrix [T, F] that `data` stands for; CodecError if nothing does."""
    return reconstruct(tables, decode_codes(tables, data, tokens))


def round_trip(tables: TransformTables, x: Tensor) -> tuple[Tensor, int]:
    """decode(encode(x)) and len(encode(x)) of one example [T, F], without decoding."""
    codes = quantize(tables, x)
    return reconstruct(tables, codes), len(encode_codes(tables, codes))


def arrived(tables: TransformTables, x: Tensor) -> Tensor:
    """The float32 tokens [T, F] that come of tokens [T, F], float32 and of any number of examples,
    on their device, without a stream. What is no number stays none.

    Sums over features may be in another order there than in `round_trip`: of a number that lies
    within their rounding in float64 of where two cells meet, the other cell's may come.
    """
    wide = tables.on(x.device)
    return wide.numbers(wide.codes(x))


def codes(tables: TransformTables, x: Tensor) -> Tensor:
    """Codes int16 [..., R] of tokens [..., F] of any number of examples, on their device; anything
    of what is no number. Sums may be in another order than in `quantize`, see `arrived`."""
    wide = tables.on(x.device)
    found = [wide.codes(part).short() for part in x.flatten(0, -2).split(TOGETHER)]
    return torch.cat(found).view(*x.shape[:-1], tables.components)


def numbers(tables: TransformTables, codes: Tensor) -> Tensor:
    """The float32 tokens [..., F] of codes [..., R], on their device; see `codes`."""
    wide = tables.on(codes.device)
    found = [wide.numbers(part.double()) for part in codes.flatten(0, -2).split(TOGETHER)]
    return torch.cat(found).view(*codes.shape[:-1], tables.features)


def quantize(tables: TransformTables, x: Tensor) -> Tensor:
    """Codes int32 [T, R] of one example [T, F] (any float type and device)."""
    if x.dim() != 2 or x.shape[0] < 1 or x.shape[1] != tables.features:
        raise CodecError(
            f"the tables are for tokens of {tables.features} numbers, this is {list(x.shape)}"
        )
    x = x.detach().cpu().float()
    check_finite(x)
    return tables.on(x.device).codes(x).int()


def reconstruct(tables: TransformTables, codes: Tensor) -> Tensor:
    """The float32 matrix [T, F] of codes [T, R]."""
    return tables.on(codes.device).numbers(codes)


def encode_codes(tables: TransformTables, codes: Tensor) -> bytes:
    """The stream of codes int32 [T, R] within their clips."""
    coder = RangeEncoder()
    symbols = (codes + tables.clip.repeat_interleave(tables.sizes.long())).numpy()
    for span, model in zip(tables.spans, tables.models, strict=True):
        coder.encode(np.ascontiguousarray(symbols[:, span]).ravel(), model)
    return ending(coder) if symbols.size else b""


def decode_codes(tables: TransformTables, data: bytes | memoryview, tokens: int) -> Tensor:
    """The codes int32 [T, R] whose stream is exactly `data`; CodecError if there are none.

    Nothing larger than T * R codes is allocated.
    """
    stream = bytes(data)
    check_length(tables, len(stream), tokens)
    coder = opened(stream)
    codes = np.empty((tokens, tables.components), dtype=np.int32)
    try:
        for span, model, clip in zip(
            tables.spans, tables.models, tables.clip.tolist(), strict=True
        ):
            size = span.stop - span.start
            codes[:, span] = coder.decode(model, tokens * size).reshape(tokens, size) - clip
    except (AssertionError, ValueError):  # some numbers lie in no code's interval
        raise CodecError("the transform stream has a number that stands for no code") from None
    found = torch.from_numpy(codes)
    if encode_codes(tables, found) != stream:
        raise CodecError(f"the transform stream is not one of {tokens} tokens")
    return found


def check_length(tables: TransformTables, length: int, tokens: int) -> None:
    """CodecError for more bytes than a stream of so many tokens can have."""
    if tokens < 1:
        raise CodecError(f"a transform stream holds at least one token, not {tokens}")
    if length > tokens * tables.components * SYMBOL_BITS // 8 + _SLACK_BYTES:
        raise CodecError(f"a transform stream of {tokens} tokens is never {length} bytes long")


_DTYPES = {
    "mean": (torch.float32, 1),
    "basis": (torch.float32, 2),
    "sizes": (torch.int32, 1),
    "step": (torch.float32, 1),
    "pull": (torch.float32, 1),
    "clip": (torch.int32, 1),
    "frequencies": (torch.int32, 1),
}


def _check(tables: TransformTables) -> None:
    """Refuse tables that could break a decoder or that are no orthonormal transform."""
    for name, (dtype, dims) in _DTYPES.items():
        tensor = getattr(tables, name)
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype or tensor.dim() != dims:
            raise CodecError(f"transform tables: {name} is not {dtype} in {dims} dimension(s)")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise CodecError(f"transform tables: {name} is not a plain tensor on the CPU")
        if dtype == torch.float32 and not bool(torch.isfinite(tensor).all()):
            raise CodecError(f"transform tables: {name} holds NaN or infinite numbers")
    features, components = tables.basis.shape
    groups = tables.sizes.shape[0]
    if not 1 <= features <= MAX_FEATURES or tables.mean.shape[0] != features:
        raise CodecError(
            f"transform tables: {features} features in the basis, {tables.mean.shape[0]} in the"
            f" mean; there are 1 to {MAX_FEATURES}"
        )
    if components > features:
        raise CodecError(f"transform tables: {components} components of {features} features")
    if any(getattr(tables, name).shape[0] != groups for name in ("step", "pull", "clip")):
        raise CodecError(f"transform tables: step, pull and clip do not all have {groups} groups")
    sizes, clip = tables.sizes.long(), tables.clip.long()
    if bool((sizes < 1).any()) or int(sizes.sum()) != components:
        raise CodecError(f"transform tables: the groups are not {components} components together")
    if not bool(((clip >= 1) & (clip <= MAX_CLIP)).all()):
        raise CodecError(f"transform tables: a clip is not within 1 to {MAX_CLIP}")
    if not bool((tables.step > 0).all() & (tables.pull >= 0).all() & (tables.pull <= 0.5).all()):
        raise CodecError("transform tables: a step is not positive or a pull not within 0 to 1/2")
    _check_frequencies(tables.frequencies, 2 * clip + 1)
    if components and not _nearly_orthonormal(tables.basis):
        raise CodecError("transform tables: the basis is not orthonormal")
    # No code may reach a number that float32 does not hold: columns have length one.
    reach = float((sizes * clip * tables.step.double()).sum() + tables.mean.double().abs().max())
    if reach * (1 + ORTHONORMAL) >= torch.finfo(torch.float32).max:
        raise CodecError("transform tables: the codes reach past the largest float32")


def _nearly_orthonormal(basis: Tensor) -> bool:
    """Whether columns have length one, and sums of them with random signs come back: all products
    of two columns, of thousands, would take minutes."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (basis.shape[1], PROBES), generator=generator).float() * 2 - 1
    lengths = basis.square().sum(0)
    errors = ((lengths - 1).abs().max(), (basis.T @ (basis @ signs) - signs).abs().max())
    return all(float(error) <= ORTHONORMAL for error in errors)


def _check_frequencies(frequencies: Tensor, symbols: Tensor) -> None:
    """Frequencies of groups with `symbols` [G] symbols each: positive, TOTAL a group."""
    if frequencies.shape[0] != int(symbols.sum()):
        raise CodecError("transform tables: there are not 2 clip + 1 frequencies a group")
    if not bool(((frequencies >= 1) & (frequencies < TOTAL)).all()):
        raise CodecError("transform tables: a frequency is not positive")
    group = torch.arange(len(symbols)).repeat_interleave(symbols)
    sums = torch.zeros(len(symbols), dtype=torch.int64).index_add_(0, group, frequencies.long())
    if not bool((sums == TOTAL).all()):
        raise CodecError(f"transform tables: a group's frequencies do not sum to {TOTAL}")
