"""The kernels against the reference on a CPU, bit for bit: on a GPU, or in Triton's interpreter
(TRITON_INTERPRET=1), which checks all but the compiler's own work. The interpreter truncates where
it converts to bfloat16 or FP8: there, bfloat16 comes out in float32, and FP8 is left out."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from c2c.triton_support import available, interpreted
from latentwire.channel import stacked
from latentwire.channel.codec import Codec, CodecError
from latentwire.channel.kernels.launch import (
    Encoded,
    decode,
    encode,
    no_numbers,
    round_trip,
    supports,
)
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.nf4 import LEVELS
from latentwire.channel.registry import CODECS
from latentwire.channel.rotation import Rotation

NAMES = ("int8", "int4", "int8_token", "int4_token", "int8_group", "int4_group", "nf4")
EXACT: tuple[Codec, ...] = (
    *(CODECS[name] for name in NAMES),
    CODECS["fp8_e4m3"],
    CODECS["fp8_e5m2"],
    *(Rotation(f"rot{bits}", 200 + bits, bits) for bits in (2, 3, 4)),
)
PER_HEAD = [codec for codec in EXACT if codec.name in ("int8", "int4", "fp8_e4m3", "fp8_e5m2")]
SOME = [codec for codec in EXACT if codec.name in ("int8", "int4_group", "nf4", "rot4", "rot3")]
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
INTERPRETED = available() and interpreted()

kernels_run = pytest.mark.skipif(
    not (INTERPRETED or (ON_GPU and available())),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
every_codec = pytest.mark.parametrize("codec", EXACT, ids=lambda codec: codec.name)
some_codecs = pytest.mark.parametrize("codec", SOME, ids=lambda codec: codec.name)
per_head = pytest.mark.parametrize("codec", PER_HEAD, ids=lambda codec: codec.name)
TILE = 512  # several programs a head even where tokens are few


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """What the kernels leave unwritten in new memory is NaN or the largest integer."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def skip_what_the_interpreter_cannot(codec: Codec) -> None:
    if INTERPRETED and codec.name.startswith("fp8"):
        pytest.skip("the interpreter's conversions to FP8 truncate")


def cases(tokens: int, head_dim: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Examples [9, 2, T, D] on the CPU: each of another kind."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(2, tokens, head_dim, generator=generator)
    outlier = normal.clone()
    outlier[..., 5] *= 80
    ties = torch.randint(-6, 6, normal.shape, generator=generator) + 0.5
    ties[..., 0], ties[..., 32] = 7, -7  # scale 1 at 4 bits, for a group as well
    eighths = ties.clone()
    eighths[..., 0], eighths[..., 32] = 127, -127
    middles = (torch.tensor(LEVELS[1:]) + torch.tensor(LEVELS[:-1])) / 2
    on_middles = middles[torch.randint(0, 15, normal.shape, generator=generator)]
    on_middles[..., 0], on_middles[..., 32] = 1, -1
    large = normal * (1e4 if dtype == torch.float16 else 1e36)
    constant = torch.full_like(normal, -2.7)
    kinds = (normal, outlier, ties, eighths, on_middles, large, constant, torch.zeros_like(normal))
    wide = torch.stack([*kinds, normal * 1e-7])
    return wide.to(dtype)


def expected_values(codec: Codec, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The reference's round trip of [H, T, D], rounded once to `dtype`."""
    return codec.round_trip(x[None].float())[0].to(dtype)


def sink_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype


def same_bits(a: Tensor, b: Tensor) -> bool:
    whole = torch.int16 if a.element_size() == 2 else torch.int32
    return a.dtype == b.dtype and torch.equal(
        a.cpu().contiguous().view(whole), b.cpu().contiguous().view(whole)
    )


def check(
    codec: Codec, tensors: list[Tensor], lengths: list[int] | None = None, **tuning: int
) -> Encoded:
    """Encode, decode and round trip of these tensors (on DEVICE) against the reference's."""
    first = tensors[0]
    assert supports(codec, first)
    dtype = sink_type(first.dtype)
    batch, tokens = first.shape[0], first.shape[2]
    own = None if lengths is None else torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    fill = {"dtype": dtype, "device": DEVICE}
    encoded = encode(codec, tensors, own, **tuning)
    payloads = encoded.payloads()
    into = [torch.full(first.shape, torch.nan, **fill) for _ in tensors]
    decoded = decode(codec, encoded, into, **tuning)
    into = [torch.full(first.shape, torch.nan, **fill) for _ in tensors]
    arrived = round_trip(codec, tensors, into, own, **tuning)
    for n, tensor in enumerate(tensors):
        for b in range(batch):
            length = tokens if lengths is None else lengths[b]
            x = tensor[b, :, :length].cpu()
            assert payloads[n][b] == codec.encode(x), (n, b)
            values = expected_values(codec, x, dtype)
            assert same_bits(arrived[n][b, :, :length], values), (n, b)
            assert same_bits(decoded[n][b, :, :length], values), (n, b)
            assert not arrived[n][b, :, length:].any()
            assert not decoded[n][b, :, length:].any()
    return encoded


@kernels_run
@every_codec
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_bytes_and_numbers_are_the_references(codec: Codec, dtype: torch.dtype) -> None:
    skip_what_the_interpreter_cannot(codec)
    tensors = [cases(9, 64, dtype, seed).to(DEVICE) for seed in (1, 2)]
    check(codec, tensors if ON_GPU else tensors[:1], tile=TILE, section=0)


@kernels_run
@every_codec
@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 64), (9, 128), (3, 32)])
def test_other_widths_and_a_single_token(codec: Codec, tokens: int, head_dim: int) -> None:
    skip_what_the_interpreter_cannot(codec)
    if head_dim == 32:
        x = cases(tokens, 64, torch.float16)[..., :32].contiguous()
    else:
        x = cases(tokens, head_dim, torch.float16)
    check(codec, [x[:4].to(DEVICE)], tile=TILE)


@kernels_run
@every_codec
def test_an_example_ends_at_its_own_length(codec: Codec) -> None:
    skip_what_the_interpreter_cannot(codec)
    lengths = [13, 1, 7, 12]
    tensors = [cases(13, 64, torch.float16, seed)[:4] for seed in (3, 4)]
    for tensor in tensors:
        for b, length in enumerate(lengths):
            tensor[b, :, length:] = torch.nan  # neither looked at nor refused
    moved = [tensor.to(DEVICE) for tensor in tensors]
    whole = check(codec, moved, lengths, tile=TILE)
    tiled = check(codec, moved, lengths, tile=TILE, section=0)
    assert whole.payloads() == tiled.payloads()


@kernels_run
@some_codecs
def test_strides_change_nothing(codec: Codec) -> None:
    x = cases(13, 64, torch.float16)[:3]
    contiguous = encode(codec, [x.to(DEVICE)]).payloads()
    tokens_first = x.transpose(1, 2).contiguous().to(DEVICE).transpose(1, 2)
    longer = torch.full((3, 2, 20, 64), torch.nan, dtype=torch.float16, device=DEVICE)
    longer[:, :, 4:17] = x.to(DEVICE)
    # Rows that start at no multiple of 16 bytes.
    wider = torch.full((3, 2, 13, 67), torch.nan, dtype=torch.float16, device=DEVICE)
    wider[..., 1:65] = x.to(DEVICE)
    for view in (tokens_first, longer[:, :, 4:17], wider[..., 1:65]):
        assert check(codec, [view]).payloads() == contiguous
    assert Stack.of([longer[:, :, 4:17]]).aligned and not Stack.of([wider[..., 1:65]]).aligned


@kernels_run
@some_codecs
@pytest.mark.parametrize(("tile", "warps", "steps"), [(256, 1, True), (2048, 8, False)])
def test_how_it_is_cut_up_changes_nothing(codec: Codec, tile: int, warps: int, steps: bool) -> None:
    tensors = [cases(37, 64, torch.bfloat16, seed)[:2].to(DEVICE) for seed in (5, 6)]
    expected = encode(codec, tensors).payloads()
    tuning = {"tile": tile, "warps": warps, "steps": steps}
    assert check(codec, tensors, section=0, **tuning).payloads() == expected


@kernels_run
@per_head
def test_a_head_read_once_has_the_scale_of_one_read_twice(codec: Codec) -> None:
    skip_what_the_interpreter_cannot(codec)
    tensors = [cases(37, 64, torch.bfloat16, 7)[:4].to(DEVICE)]
    once = check(codec, tensors, section=64 * 64)
    twice = check(codec, tensors, section=64 * 64 - 1, tile=TILE)
    assert same_bits(once.scales, twice.scales)


@kernels_run
@some_codecs
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_no_number_is_not_sent(codec: Codec, value: float) -> None:
    tensors = [cases(13, 64, torch.bfloat16, seed)[:2].to(DEVICE) for seed in (1, 2)]
    tensors[1][1, 1, 12, 63] = value
    for section in (0, 2**14):
        with pytest.raises(CodecError, match="NaN or infinite"):
            encode(codec, tensors, tile=TILE, section=section)
    lengths = torch.full((2,), 12, dtype=torch.int32, device=DEVICE)
    encode(codec, tensors, lengths, tile=TILE)


@kernels_run
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_with_no_numbers(dtype: torch.dtype) -> None:
    """Found wherever they stand, also in tensors of other shapes and places in memory."""
    plain = [torch.randn(4, 2, tokens, 64).to(DEVICE, dtype) for tokens in (140, 140, 3)]
    turned = torch.randn(4, 140, 2, 64).to(DEVICE, dtype).transpose(1, 2)
    tensors = [*plain, turned]
    caches = [tensors[:2], tensors[2:], [*tensors[2:]]]
    assert not stacked.no_numbers(caches).any()
    plain[1][1, 1, 139, 63] = torch.nan
    turned[3, 0, 0, 0] = -torch.inf
    first, second = [False, True, False, False], [False, False, False, True]
    assert stacked.no_numbers(caches).tolist() == [first, second, second]
    assert stacked.no_numbers([tensors]).tolist() == [[False, True, False, True]]
    assert no_numbers(plain[:2]).tolist() == [[False] * 4, first]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@some_codecs
def test_a_device_that_is_not_the_current_one(codec: Codec) -> None:
    x = cases(9, 64, torch.bfloat16)
    encoded = [encode(codec, [x.to(f"cuda:{number}")], check=False) for number in (0, 1)]
    for ours, theirs in zip(encoded[1].codes, encoded[0].codes, strict=True):
        assert torch.equal(ours.cpu(), theirs.cpu())
    decoded = [
        decode(codec, kept, [torch.empty_like(x, device=kept.codes.device)])[0] for kept in encoded
    ]
    assert same_bits(decoded[1].cpu(), decoded[0].cpu())


@kernels_run
@some_codecs
def test_a_round_trip_into_new_tensors_and_into_itself(codec: Codec) -> None:
    tensors = [cases(13, 64, torch.float16, seed).to(DEVICE) for seed in (1, 2)]
    tensors = [tensor[:2].clone() for tensor in tensors]
    before = [tensor.clone() for tensor in tensors]
    new = round_trip(codec, tensors)
    assert all(same_bits(a, b) for a, b in zip(tensors, before, strict=True))
    own = round_trip(codec, tensors, tensors)
    assert all(same_bits(a, b) for a, b in zip(own, new, strict=True))
    assert own[0].data_ptr() == tensors[0].data_ptr()
    assert not same_bits(tensors[0], before[0])


@kernels_run
def test_what_does_not_fit_is_refused() -> None:
    x = cases(5, 64, torch.float16).to(DEVICE)
    codec = CODECS["int4"]
    with pytest.raises(ValueError, match="differ in shape"):
        Stack.of([x, x[:, :, :4]])
    with pytest.raises(ValueError, match="D contiguous"):
        Stack.of([x.mT])
    with pytest.raises(ValueError, match="no kernel"):
        encode(CODECS["int3"], [x])
    with pytest.raises(ValueError, match="does not fit"):
        decode(codec, encode(codec, [x]), [x, x])
    with pytest.raises(ValueError, match="shape or number"):
        round_trip(codec, [x], [x[:, :, :4]])


def test_what_is_supported() -> None:
    x = torch.ones(1, 2, 3, 64, dtype=torch.bfloat16, device=DEVICE)
    some = EXACT[0]
    assert supports(some, x) is (INTERPRETED or (ON_GPU and available()))
    assert not any(
        supports(codec, x)
        for codec in (CODECS["int3"], CODECS["int8_layer"], CODECS["mxfp4"], CODECS["bf16"])
    )
    assert not supports(Rotation("rot2.5", 210, 2.5), x)
    for tensor in (x.double(), x[..., :48], x.mT, x[:, :, :0], x[0], x[..., ::2]):
        assert not supports(some, tensor)


@kernels_run
@pytest.mark.skipif(not ON_GPU, reason="long sections are for a GPU")
@every_codec
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_many_numbers(codec: Codec, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(1, 4, 20_011, 128, generator=generator) * 3
    x[..., ::17] *= torch.rand(1, 4, 20_011, 1, generator=generator) * 20
    check(codec, [x.to(DEVICE, dtype)])
