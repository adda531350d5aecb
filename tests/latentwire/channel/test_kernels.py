"""The kernels against the reference on a CPU, bit for bit: on a GPU, or in Triton's interpreter
(TRITON_INTERPRET=1), which checks all but the compiler's own work. The interpreter truncates where
it converts to bfloat16 or FP8: there, bfloat16 comes out in float32, and FP8 is left out."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from c2c.triton_support import available, interpreted
from latentwire.channel import stacked
from latentwire.channel.asymmetric import Asymmetric
from latentwire.channel.codec import Codec
from latentwire.channel.kernels.launch import decode, encode, round_trip, supports
from latentwire.channel.kernels.means import Means
from latentwire.channel.kernels.on_caches import no_numbers
from latentwire.channel.kernels.pointer_stack import Stack
from latentwire.channel.kernels.room import Room
from latentwire.channel.mxfp4 import MAGNITUDES
from latentwire.channel.nf4 import LEVELS
from latentwire.channel.registry import CODECS
from latentwire.channel.rotation import Rotation
from latentwire.channel.symmetric import Symmetric

INTEGERS = [
    f"int{bits}{axis}" for axis in ("", "_layer", "_token", "_group") for bits in (8, 4, 3, 2)
]
KIVI = [
    Asymmetric(f"kivi{bits}_{axis}", 220 + bits, bits, axis)
    for axis in ("channel", "token")
    for bits in (8, 4, 3, 2)
]
EXACT: tuple[Codec, ...] = (
    *(CODECS[name] for name in (*INTEGERS, "nf4", "mxfp4", "bf16", "fp32")),
    *KIVI,
    CODECS["fp8_e4m3"],
    CODECS["fp8_e5m2"],
    *(Rotation(f"rot{bits}", 200 + int(2 * bits), bits) for bits in (1, 1.5, 2, 2.5, 3, 3.5, 4)),
)
HEADS = (
    "int8",
    "int4",
    "int3",
    "int8_layer",
    "fp8_e4m3",
    "fp8_e5m2",
    "kivi8_channel",
    "kivi2_channel",
)
PER_HEAD = [codec for codec in EXACT if codec.name in HEADS]
CHOSEN = (
    "int8",
    "int3",
    "int4_layer",
    "int4_group",
    "int2_token",
    "kivi3_channel",
    "kivi4_token",
    "nf4",
)
ROTATED = ("rot4", "rot3", "rot1", "rot2.5")
SOME = [codec for codec in EXACT if codec.name in (*CHOSEN, "mxfp4", *ROTATED)]
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
INTERPRETED = available() and interpreted()

kernels_run = pytest.mark.skipif(
    not (INTERPRETED or (ON_GPU and available())),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
every_codec = pytest.mark.parametrize("codec", EXACT, ids=lambda codec: codec.name)
zero_points = pytest.mark.parametrize("codec", KIVI, ids=lambda codec: codec.name)
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
    if INTERPRETED and codec.name.startswith(("fp8", "bf16")):
        pytest.skip("the interpreter's conversions to FP8 and bfloat16 truncate")


def cases(tokens: int, head_dim: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Examples [10, 2, T, D] on the CPU: each of another kind."""
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
    few = torch.randint(-6, 7, normal.shape, generator=generator) / 2
    few[..., 0], few[..., 32] = 3, -3  # middles between codes of 3 and of 2 bits
    large = normal * (1e4 if dtype == torch.float16 else 1e36)
    constant = torch.full_like(normal, -2.7)
    kinds = (normal, outlier, ties, eighths, on_middles, large, constant, torch.zeros_like(normal))
    wide = torch.stack([*kinds, normal * 1e-7, few])
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


def encoded(codec: Codec, tensors: list[Tensor], **tuning: int) -> tuple[Room, bool]:
    """The payloads of these tensors, and whether the codec may refuse one."""
    first = tensors[0]
    batch, heads, tokens, head_dim = first.shape
    room = Room.new(codec, len(tensors), batch, (heads, tokens, head_dim), first.device)
    broken = torch.zeros(1, dtype=torch.int32, device=first.device)
    encode(codec, tensors, room, broken, **tuning)
    return room, bool(broken)


def payloads(codec: Codec, room: Room, shape: tuple[int, ...]) -> list[list[bytes]]:
    """Of each tensor [H, T, D] and example, as `codec.encode` writes it."""
    heads, tokens, head_dim = shape[-3:]
    parts = [each.cpu().numpy() for each in room.parts(codec, (heads, tokens, head_dim))]
    count, batch = parts[0].shape[:2]
    return [
        [b"".join(each[n, b].tobytes() for each in parts) for b in range(batch)]
        for n in range(count)
    ]


def check(codec: Codec, tensors: list[Tensor], **tuning: int) -> list[list[bytes]]:
    """Encode, decode and round trip of these tensors (on DEVICE) against the reference's; gives
    their payloads."""
    first = tensors[0]
    assert supports(codec, first)
    dtype = sink_type(first.dtype)
    fill = {"dtype": dtype, "device": DEVICE}
    room, refused = encoded(codec, tensors, **tuning)
    assert not refused
    written = payloads(codec, room, first.shape)
    decoded = [torch.full(first.shape, torch.nan, **fill) for _ in tensors]
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    decode(codec, room, decoded, broken, **tuning)
    into = [torch.full(first.shape, torch.nan, **fill) for _ in tensors]
    arrived = round_trip(codec, tensors, into, **tuning)
    lost = False
    for n, tensor in enumerate(tensors):
        for b, x in enumerate(tensor.cpu()):
            assert written[n][b] == codec.encode(x), (n, b)
            values = expected_values(codec, x, dtype)
            assert same_bits(arrived[n][b], values), (n, b)
            assert same_bits(decoded[n][b], values), (n, b)
            lost |= not bool(torch.isfinite(values).all())
    assert bool(broken) == lost
    return written


@kernels_run
@every_codec
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_bytes_and_numbers_are_the_references(codec: Codec, dtype: torch.dtype) -> None:
    skip_what_the_interpreter_cannot(codec)
    tensors = [cases(9, 64, dtype, seed).to(DEVICE) for seed in (1, 2)]
    check(codec, tensors if ON_GPU else tensors[:1], tile=TILE, section=0)


@kernels_run
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_halves_are_sent_where_they_hold_the_numbers(dtype: torch.dtype) -> None:
    codec, x = CODECS["fp16"], torch.randn(2, 2, 9, 64, generator=torch.Generator().manual_seed(3))
    x[1, 1, 8, 63], x[0, 0, 0, 0], x[0, 1, 2, 3] = 65519.0, -65504.0, 1e-8
    x = x.to(DEVICE, dtype)
    if dtype == torch.bfloat16:  # rounds both up
        x[1, 1, 8, 63], x[0, 0, 0, 0] = 65280.0, -65280.0
    check(codec, [x], tile=TILE)
    if dtype != torch.float16:
        x[1, 1, 8, 63] = 65536.0
        assert encoded(codec, [x], tile=TILE)[1]


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
@pytest.mark.parametrize("apart", [4, 8])
def test_payloads_stand_wherever_the_room_says(codec: Codec, apart: int) -> None:
    """In rows of packets: each tensor behind the one before, with something between the rows."""
    skip_what_the_interpreter_cannot(codec)
    tensors = [cases(13, 64, torch.float16, seed)[:3].to(DEVICE) for seed in (3, 4)]
    shape = (2, 13, 64)
    lengths = [each.length for each in codec.fields(shape)]
    size = sum(lengths)
    rows = torch.full((3, 2 * size + 4 * apart), 165, dtype=torch.uint8, device=DEVICE)
    starts = [apart, 3 * apart + size]  # of these, and all else, multiples of 4 bytes
    fields = [0, *accumulate(lengths)][:-1]
    room = Room(rows, starts, rows.stride(0), fields)
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    encode(codec, tensors, room, broken, tile=TILE, section=0)
    gap = torch.ones_like(rows, dtype=torch.bool)
    for tensor, start in zip(tensors, starts, strict=True):
        gap[:, start : start + size] = False
        for row, x in zip(rows.cpu().numpy(), tensor.cpu(), strict=True):
            assert row[start : start + size].tobytes() == codec.encode(x)
    assert bool((rows[gap] == 165).all())
    found = [torch.full_like(tensors[0], torch.nan) for _ in tensors]
    decode(codec, room, found, broken, tile=TILE)
    assert not broken.any()
    for tensor, arrived in zip(tensors, found, strict=True):
        for x, own in zip(tensor.cpu(), arrived, strict=True):
            assert same_bits(own, expected_values(codec, x, torch.float16))


@kernels_run
@some_codecs
def test_strides_change_nothing(codec: Codec) -> None:
    x = cases(13, 64, torch.float16)[:3]
    contiguous = check(codec, [x.to(DEVICE)])
    tokens_first = x.transpose(1, 2).contiguous().to(DEVICE).transpose(1, 2)
    longer = torch.full((3, 2, 20, 64), torch.nan, dtype=torch.float16, device=DEVICE)
    longer[:, :, 4:17] = x.to(DEVICE)
    # Rows that start at no multiple of 16 bytes.
    wider = torch.full((3, 2, 13, 67), torch.nan, dtype=torch.float16, device=DEVICE)
    wider[..., 1:65] = x.to(DEVICE)
    for view in (tokens_first, longer[:, :, 4:17], wider[..., 1:65]):
        assert check(codec, [view]) == contiguous
    assert Stack.of([longer[:, :, 4:17]]).aligned and not Stack.of([wider[..., 1:65]]).aligned


@kernels_run
@some_codecs
@pytest.mark.parametrize(("tile", "warps", "steps"), [(256, 1, True), (2048, 8, False)])
def test_how_it_is_cut_up_changes_nothing(codec: Codec, tile: int, warps: int, steps: bool) -> None:
    tensors = [cases(37, 64, torch.bfloat16, seed)[:2].to(DEVICE) for seed in (5, 6)]
    expected = check(codec, tensors)
    tuning = {"tile": tile, "warps": warps, "steps": steps}
    assert check(codec, tensors, section=0, **tuning) == expected


@kernels_run
@per_head
def test_a_head_read_once_has_the_scale_of_one_read_twice(codec: Codec) -> None:
    skip_what_the_interpreter_cannot(codec)
    tensors = [cases(37, 64, torch.bfloat16, 7)[:4].to(DEVICE)]
    once = check(codec, tensors, section=64 * 64)
    twice = check(codec, tensors, section=64 * 64 - 1, tile=TILE)
    assert once == twice


@kernels_run
@zero_points
@pytest.mark.parametrize("section", [0, 2**14])
def test_zero_points_of_ties_and_of_numbers_far_from_zero(codec: Asymmetric, section: int) -> None:
    """Middles between all codes; a range that is no float32, none, or too far for float16; zeros of
    both signs, and a negative number that is zero in float16."""
    limit = 2**codec.bits - 1
    generator = torch.Generator().manual_seed(1)
    middles = torch.randint(0, 2 * limit + 1, (2, 18, 64), generator=generator) / 2
    for own in (middles, middles.mT):  # each channel, and then each token, has both ends
        own[:, 0, :], own[:, 1, :] = 0, limit
    middles[:, 0, 0] = middles[:, 1, 1] = 0
    middles[:, 0, 1] = middles[:, 1, 0] = limit
    sign = torch.randint(0, 2, middles.shape, generator=generator) * 2.0 - 1
    kinds = (
        *(middles - limit // 2, middles * 2**-20, middles * 8192 - 7.5, sign * 3.3e38),
        *(torch.full_like(middles, 3e38), sign * 2.0 + 3e38, sign * 70000, middles * 0.0 * sign),
        *(middles - 1e-9, (middles.round() - 1) * 2.0**-23),
    )
    check(codec, [torch.stack(kinds).to(DEVICE)], tile=TILE, section=section)


@kernels_run
def test_powers_of_two_as_scales_from_the_smallest_to_the_largest() -> None:
    """Middles of all codes, numbers too large for them, and each of these times powers from where
    float32 has no bits left to its end; zeros of both signs, also those that small numbers become
    when they are scaled."""
    codec = CODECS["mxfp4"]
    levels = torch.tensor(MAGNITUDES)
    numbers = torch.cat([levels, (levels[1:] + levels[:-1]) / 2, torch.tensor([7.0, 5.0001])])
    block = torch.cat([numbers, -numbers]).repeat(2)[:32]
    powers = [-155, -150, -149, -140, -129, -128, -127, -126, -125, -124, -1, 0, 1, 60, 124, 125]
    rows = [torch.ldexp(block.double(), torch.tensor(power)).float() for power in powers]
    far = block.clone()
    far[:8] = torch.ldexp(-torch.ones(8), torch.arange(-149, -117, 4))
    rows += [far, *(torch.ldexp(far, torch.tensor(p)) for p in (-60, 60)), block * 0, -block * 0]
    far[8] = 2.0**120
    x = torch.stack([*rows, far, far, far]).view(1, 2, -1, 64)
    check(codec, [x.to(DEVICE)], tile=TILE)


@kernels_run
@some_codecs
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_no_number_is_not_sent(codec: Codec, value: float) -> None:
    tensors = [cases(13, 64, torch.bfloat16, seed)[:2].to(DEVICE) for seed in (1, 2)]
    tensors[1][1, 1, 12, 63] = value
    for section in (0, 2**14):
        assert encoded(codec, tensors, tile=TILE, section=section)[1]
    tensors[1][1, 1, 12, 63] = 1
    assert not encoded(codec, tensors, tile=TILE)[1]


def with_means(
    codec: Codec, tensors: list[Tensor], means: Means, dtype: torch.dtype
) -> tuple[list[list[bytes]], list[Tensor]]:
    """By the reference: payloads of the tensors without their means, and what arrives."""
    still = [tensor.cpu() for tensor in means.moved(tensors, torch.sub)]
    written = [[codec.encode(x.float()) for x in tensor] for tensor in still]
    arrived = [codec.round_trip(tensor.float()).to(DEVICE) for tensor in still]
    return written, [tensor.to(dtype) for tensor in means.moved(arrived, torch.add)]


def some_means(shape: tuple[int, ...], lists: int, rows: int, scale: float = 3.0) -> Means:
    """Of three tensors [B, H, T, D]: the first and the last have means."""
    _, heads, tokens, head_dim = shape
    generator = torch.Generator().manual_seed(8)
    table = scale * torch.randn(3, heads, 21, head_dim, generator=generator)
    at = torch.randint(0, 21, (lists, rows, tokens), generator=generator)
    largest = float(table.abs().max())
    return Means(table.to(DEVICE), largest, [2, -1, 0], [0, 0, lists - 1], at)


@kernels_run
@pytest.mark.parametrize("bits", [2, 2.5])
@pytest.mark.parametrize(
    ("lists", "rows", "dtype"), [(1, 1, torch.float16), (2, 3, torch.bfloat16)], ids=str
)
def test_means_are_taken_and_added(bits: float, lists: int, rows: int, dtype: torch.dtype) -> None:
    """In float32 whatever the dtype; what has none keeps its zeros' signs."""
    codec = Rotation("rot", 200, bits)
    kinds = [cases(13, 64, dtype, seed) for seed in (1, 2, 3)]
    kinds = [each[[0, 1, 7]].contiguous().to(DEVICE) for each in kinds]  # zeros are the last
    means = some_means(kinds[0].shape, lists, rows)
    sink = sink_type(dtype)
    written, values = with_means(codec, kinds, means, sink)
    room = Room.new(codec, 3, 3, (2, 13, 64), DEVICE)
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    encode(codec, kinds, room, broken, means, tile=TILE)
    assert payloads(codec, room, kinds[0].shape) == written
    decoded = [torch.full_like(x, torch.nan, dtype=sink) for x in kinds]
    decode(codec, room, decoded, broken, means, tile=TILE)
    into = [torch.full_like(x, torch.nan, dtype=sink) for x in kinds]
    arrived = round_trip(codec, kinds, into, means, tile=TILE)
    for one, other, value in zip(decoded, arrived, values, strict=True):
        assert same_bits(one, value) and same_bits(other, value)
    assert not broken.any()


@kernels_run
@pytest.mark.parametrize(("scale", "mean"), [(6000.0, 0.0), (20000.0, 0.0), (1.0, 7e4)])
@pytest.mark.parametrize("means", [False, True])
def test_numbers_that_a_dtype_does_not_hold_are_found(
    scale: float, mean: float, means: bool
) -> None:
    """And no others, however long the vector that a scale allows."""
    codec = Rotation("rot", 200, 2)
    x = scale * torch.randn(1, 2, 5, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    table = torch.zeros(1, 2, 1, 64)
    table[0, 1, 0, 9] = mean
    at = torch.zeros(1, 1, 5, dtype=torch.int64)
    own = Means(table.to(DEVICE), mean, [0], [0], at) if means else None
    room = Room.new(codec, 1, 1, (2, 5, 64), DEVICE)
    broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    encode(codec, [x], room, broken)
    found = [torch.empty_like(x, dtype=torch.float16)]
    decode(codec, room, found, broken, own)
    assert bool(broken) == (not bool(torch.isfinite(found[0]).all()))
    assert bool(broken) == (scale == 20000 or (means and mean == 7e4))


@pytest.mark.skipif(not (ON_GPU and available()), reason="the interpreter truncates to bfloat16")
def test_a_mean_that_bfloat16_does_not_hold_is_found() -> None:
    codec, x = CODECS["rotate2"], torch.zeros(1, 2, 5, 64, device=DEVICE)
    room, table = encoded(codec, [x])[0], torch.zeros(1, 2, 1, 64, device=DEVICE)
    at, found = torch.zeros(1, 1, 5, dtype=torch.int64), [x.bfloat16()]
    for mean in (3.38e38, 3.4e38):
        table[0, 1, 0, 63] = mean
        broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        decode(codec, room, found, broken, Means(table, mean, [0], [0], at))
        assert bool(broken) == (mean == 3.4e38)


@kernels_run
def test_what_a_mean_makes_infinite_is_not_sent() -> None:
    x = torch.full((1, 2, 5, 64), 3e38, device=DEVICE)
    table, at = torch.zeros(1, 2, 1, 64, device=DEVICE), torch.zeros(1, 1, 5, dtype=torch.int64)
    room = Room.new(CODECS["rotate2"], 1, 1, (2, 5, 64), DEVICE)
    for mean in (3e38, -3e38):
        table[0, 1, 0, 63] = mean
        broken = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        encode(CODECS["rotate2"], [x], room, broken, Means(table, 3e38, [0], [0], at))
        assert bool(broken) == (mean < 0)
    with pytest.raises(ValueError, match="not for integer"):
        encode(CODECS["int4"], [x], room, broken, Means(table, 3e38, [0], [0], at))
    with pytest.raises(ValueError, match="not for rotation"):
        encode(CODECS["rotate2"], [x], room, broken, Means(table, 3e38, [0], [0], at[..., :4]))


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
    devices = [torch.device(f"cuda:{number}") for number in (0, 1)]
    rooms = [encoded(codec, [x.to(device)])[0] for device in devices]
    assert payloads(codec, rooms[0], x.shape) == payloads(codec, rooms[1], x.shape)
    decoded = [torch.empty_like(x, device=device) for device in devices]
    for room, own, device in zip(rooms, decoded, devices, strict=True):
        decode(codec, room, [own], torch.zeros(1, dtype=torch.int32, device=device))
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
        encoded(Symmetric("int5", 211, 5, "head"), [x])
    room, broken = encoded(codec, [x])[0], torch.zeros(1, dtype=torch.int32, device=DEVICE)
    with pytest.raises(ValueError, match="as many tensors"):
        decode(codec, room, [x, x], broken)
    with pytest.raises(ValueError, match="multiples of 4 bytes"):
        decode(codec, replace(room, starts=[2]), [x], broken)
    with pytest.raises(ValueError, match="shape or number"):
        round_trip(codec, [x], [x[:, :, :4]])


def test_what_is_supported() -> None:
    x = torch.ones(1, 2, 3, 64, dtype=torch.bfloat16, device=DEVICE)
    some = EXACT[0]
    assert supports(some, x) is (INTERPRETED or (ON_GPU and available()))
    assert not supports(Symmetric("int5", 211, 5, "head"), x)
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
