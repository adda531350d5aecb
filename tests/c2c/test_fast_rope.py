"""The rotary embedding as one kernel: the bits of transformers' own, and only where it is the
formula. Kernels run on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1), there in float16
alone: it truncates where it converts to bfloat16."""

from types import ModuleType

import pytest
import torch
from tiny import make_model
from torch import Tensor
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from c2c import fast_rope
from c2c.fast_rope import fast_rotary, rotate, supported
from c2c.triton_support import kernels_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float16, torch.bfloat16)[: 2 if DEVICE.type == "cuda" else 1]

kernel = pytest.mark.skipif(
    not kernels_run(torch.empty(1, device=DEVICE)),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)


def numbers(rows: int, heads: int, tokens: int, width: int, dtype: torch.dtype) -> Tensor:
    """As a model has them: [R, H, T, D], in memory [R, T, H, D]."""
    generator = torch.Generator().manual_seed(rows + heads)
    x = torch.randn((rows, tokens, heads, width), generator=generator)
    return x.to(DEVICE, dtype).transpose(1, 2)


@kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "query_heads", "heads", "tokens", "width"),
    [(3, 4, 2, 5, 16), (1, 14, 2, 7, 64), (6, 16, 8, 1, 128), (2, 1, 1, 3, 2)],
)
def test_the_bits_of_the_models_own(
    dtype: torch.dtype, rows: int, query_heads: int, heads: int, tokens: int, width: int
) -> None:
    query, key = (numbers(rows, h, tokens, width, dtype) for h in (query_heads, heads))
    cos, sin = (numbers(rows, h, tokens, width, dtype)[:, 0] for h in (1, 2))
    for angles in ((cos, sin), (cos[:1].expand_as(cos), sin[:1].expand_as(sin))):
        assert supported(query, key, *angles)
        ours = rotate(query, key, *angles)
        theirs = modeling_qwen3.apply_rotary_pos_emb(query, key, *angles)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other)


@kernel
def test_a_model_in_16_bits_gives_the_same_bits() -> None:
    model = make_model("qwen2").to(DEVICE, torch.float16)  # heads of 8
    ids = torch.arange(24, device=DEVICE).view(2, 12) % 7
    with torch.inference_mode():
        before = model(ids).logits
        with fast_rotary(model) as modules:
            assert modules == 1
            assert torch.equal(model(ids).logits, before)


def test_the_models_own_is_given_back_and_used_where_the_kernel_is_not() -> None:
    model = make_model("qwen2")
    usual = modeling_qwen2.apply_rotary_pos_emb
    ids = torch.arange(24).view(2, 12) % 7
    before = model(ids).logits
    with pytest.raises(KeyError), fast_rotary(model) as modules:
        assert modules == 1 and modeling_qwen2.apply_rotary_pos_emb is not usual
        assert torch.equal(model(ids).logits, before)  # in float32: the usual
        raise KeyError
    assert modeling_qwen2.apply_rotary_pos_emb is usual


def test_another_formula_is_left_alone() -> None:
    def interleaved(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return q * cos[:, None], k * cos[:, None]

    def asks_for_more(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q, k

    for function in (interleaved, asks_for_more):
        module = ModuleType("other")
        module.apply_rotary_pos_emb = function  # type: ignore[attr-defined]
        assert not fast_rope._is_plain(module)
    assert not fast_rope._is_plain(ModuleType("none"))
    assert fast_rope._is_plain(modeling_qwen3)
