"""A token in each row by the kernel gives what a pass over slots gives: on a GPU, or in Triton's
interpreter (TRITON_INTERPRET=1), which checks all but the compiler's own work, and in float16
alone: its products of bfloat16 are wrong."""

from typing import Any

import pytest
import torch
from tiny import SLIDING_WINDOW, VOCABULARY, make_model, randomize, token_ids
from torch import Tensor
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from c2c import batched_decoding
from c2c.batched_decoding import Decoder
from c2c.cache import Geometry, KVCache, geometry
from c2c.decode_step import BLOCK, DecodePass, supported
from c2c.fast_ops import fast_steps
from c2c.pieces import AtOnce
from c2c.slot_cache import new_slots, next_logits, read, slot_attention
from c2c.steps import finished

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LENGTHS = [3, SLIDING_WINDOW + 12, 1, BLOCK + 9, 14, BLOCK, 0, BLOCK + 1]
SLOTS = 2 * BLOCK
ARCHITECTURES = ("qwen2", "qwen3", "gemma3")
DTYPES = (torch.float16, torch.bfloat16)[: 2 if DEVICE.type == "cuda" else 1]
ROUNDING = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


def make(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model of few layers whose heads have a width that the kernel takes."""
    small: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 40, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
    if name == "gemma3":  # one KV head for four, some layers with a window
        model = make_model(name)
    elif name == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**small | {"num_key_value_heads": 4}))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**small, head_dim=32))
    randomize(model, seed=3)
    return model.requires_grad_(False).eval().to(DEVICE, dtype)


def kernels_run() -> bool:
    slots = new_slots(Geometry(1, 1, 16), 1, 8, torch.float16, DEVICE)
    return supported(slots, 1)


pytestmark = pytest.mark.skipif(
    not kernels_run(), reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1"
)


def filled(model: PreTrainedModel, ids: Tensor) -> KVCache:
    """Slots that hold each row's text, and behind it what must not be seen: NaN."""
    slots = new_slots(geometry(model.config), len(ids), SLOTS, model.dtype, DEVICE)
    read(model, ids, [ids.shape[1]] * len(ids), slots, AtOnce(10_000, 0))
    for row, length in enumerate(LENGTHS):
        for tensor in (*slots.keys, *slots.values):
            tensor[row, :, length:] = torch.nan
    return slots


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_pass_over_slots_gives(name: str, dtype: torch.dtype) -> None:
    """Both as far from float32 as rounding takes them, and the same new keys and values kept."""
    model = make(name, dtype)
    ids = token_ids(len(LENGTHS), max(LENGTHS) + 1).to(DEVICE)
    places = torch.tensor(LENGTHS, device=DEVICE)
    last = ids.gather(1, places[:, None])[:, 0]
    with slot_attention(model), torch.inference_mode():
        by_kernel = filled(model, ids[:, :-1])
        by_slots = by_kernel.map(torch.nan_to_num)
        order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4], device=DEVICE)  # rows out of order
        ours = next_logits(model, last[order], places[order], by_kernel, 0, order)
        ours = ours[order.argsort()]
        theirs = next_logits(model, last, places, by_slots, SLOTS)
    precise = model.float()  # the same weights
    with torch.inference_mode():
        exact = [
            precise(ids[row : row + 1, : n + 1]).logits[0, -1] for row, n in enumerate(LENGTHS)
        ]
    for row, expected in enumerate(exact):
        size = float(expected.abs().max())
        for logits in (ours, theirs):
            distance = float((logits[row].float() - expected).abs().max())
            assert distance <= 16 * ROUNDING[dtype] * size, (row, distance, size)
    for mine, other in zip((*by_kernel.keys, *by_kernel.values),
                           (*by_slots.keys, *by_slots.values), strict=True):  # fmt: skip
        for row, length in enumerate(LENGTHS):
            torch.testing.assert_close(
                mine[row, :, length], other[row, :, length], rtol=0.05, atol=16 * ROUNDING[dtype]
            )
            assert bool(mine[row, :, length + 1 :].isnan().all()), "another slot was written"


def test_a_row_is_as_if_alone() -> None:
    """To the bit: nothing of the other rows, their number or the slots' number enters."""
    model = make("qwen3", torch.float16)
    heads = model.config.num_attention_heads
    shape = geometry(model.config)
    generator = torch.Generator().manual_seed(5)

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(DEVICE, torch.float16)

    rows, longest = len(LENGTHS), max(LENGTHS)
    keys, values = (numbers(rows, shape.kv_heads, SLOTS, shape.head_dim) for _ in range(2))
    query = numbers(rows, heads, 1, shape.head_dim)
    key, value = (numbers(rows, shape.kv_heads, 1, shape.head_dim) for _ in range(2))
    places = torch.tensor(LENGTHS, device=DEVICE)

    def attended(pick: slice, slots: int) -> Tensor:
        cache = KVCache((keys[pick, :, :slots].clone(),), (values[pick, :, :slots].clone(),))
        rows = torch.arange(len(places[pick]), device=DEVICE)
        step = DecodePass(cache, rows, places[pick])
        own = step.update(key[pick], value[pick], 0)
        return step.attend(query[pick], *own, None, None)

    whole = attended(slice(None), SLOTS)
    for row in range(rows):
        alone = attended(slice(row, row + 1), longest + 1)
        assert torch.equal(alone[0], whole[row])


def test_decoding_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 16 bits rows leave without their slots being moved, and answer as if none had left."""
    model = make("qwen3", torch.float16)
    forced_lengths = [1, 9, 4, 0, 9, 2, 9, 3]
    ids = token_ids(len(forced_lengths), 9).to(DEVICE)
    seen: list[tuple[int, tuple[Any, ...]]] = []
    step = batched_decoding.next_logits
    monkeypatch.setattr(
        batched_decoding, "next_logits", lambda *a: seen.append((len(a[1]), a)) or step(*a)
    )
    monkeypatch.setattr(batched_decoding, "FEWEST_ROWS", {DEVICE.type: 1})

    def answered(lengths: list[int]) -> list[list[int]]:
        decoder = Decoder(model, len(forced_lengths) + 3, 64, use_graphs=False)
        with slot_attention(model):
            read(
                model,
                ids,
                [ids.shape[1] - 1] * len(ids),
                decoder.slots.rows(0, len(forced_lengths)),
                AtOnce(10_000, 0),
            )
            steps = decoder.greedy(ids[:, -1], [8] * len(forced_lengths), 9, forced_lengths=lengths)
            return finished(steps)

    whole = answered([9] * len(forced_lengths))
    assert {rows for rows, _ in seen} == {len(forced_lengths)}
    assert answered(forced_lengths) == [
        row[:n] for row, n in zip(whole, forced_lengths, strict=True)
    ]
    assert len({rows for rows, _ in seen}) > 1
    assert all(arguments[5] is not None for _, arguments in seen)  # the rows' slots


def test_memory_divided_anew() -> None:
    """Recorded steps too serve more rows that are shorter, and fewer that are longer."""
    model = make("qwen3", torch.float16)
    decoder = Decoder(model, 4, 64, use_graphs=True, most_rows=8)
    for rows, slots in ((4, 64), (8, 32), (4, 32), (2, 128)):
        decoder.divide(slots)
        ids = token_ids(rows, 9, seed=slots).to(DEVICE)
        answers = []
        for each in (decoder, Decoder(model, rows, slots, use_graphs=False)):
            with slot_attention(model):
                own = each.slots.rows(0, rows)
                read(model, ids, [8] * rows, own, AtOnce(10_000, 0))
                answers.append(finished(each.greedy(ids[:, -1], [8] * rows, 12)))
        assert answers[0] == answers[1]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_a_device_that_is_not_the_current_one() -> None:
    """Kernels go where the tensors are, with recorded steps too."""
    answers, forced_lengths = [], [3, 20, 7, 20, 1, 9, 2, 20]
    for number in range(2):
        device = torch.device("cuda", number)
        model = make("qwen3", torch.bfloat16).to(device)
        ids = token_ids(8, 9).to(device)
        decoder = Decoder(model, 8, 64, use_graphs=True)
        with slot_attention(model), fast_steps(model):
            read(
                model,
                ids,
                [ids.shape[1] - 1] * len(ids),
                decoder.slots.rows(0, 8),
                AtOnce(10_000, 0),
            )
            steps = decoder.greedy(ids[:, -1], [8] * 8, 20, forced_lengths=forced_lengths)
            answers.append(finished(steps))
    assert answers[0] == answers[1]
    assert torch.cuda.current_device() == 0
