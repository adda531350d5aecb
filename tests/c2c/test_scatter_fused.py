"""The end of a fusion by the kernel has the bits of the three steps it stands for."""

import pytest
import torch
from torch import Tensor

from c2c import scatter_fused
from c2c.scatter_fused import add_change, supported
from c2c.triton_support import kernels_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# The interpreter truncates where it converts to bfloat16.
DTYPES = (torch.float16, torch.bfloat16)[: 2 if DEVICE.type == "cuda" else 1]
ROWS, EXAMPLES, SLOTS, TOKENS, KEPT = 7, 3, 9, 6, 20


def parts(heads: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Slots, own, weight, branch, and where each token goes, no place twice."""
    generator = torch.Generator().manual_seed(heads)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    place = torch.randperm(ROWS * TOKENS, generator=generator)[:KEPT].to(DEVICE)
    example = torch.randint(EXAMPLES, (KEPT,), generator=generator).to(DEVICE)
    return (
        numbers(ROWS, heads, SLOTS, width),
        numbers(EXAMPLES, heads, TOKENS, width),
        numbers(KEPT, heads).sigmoid(),
        numbers(KEPT, heads * width).unflatten(-1, (heads, width)),
        place // TOKENS,
        example,
        place % TOKENS,
    )


@pytest.mark.skipif(
    not kernels_run(torch.empty(1, device=DEVICE)),
    reason="needs a CUDA device, or Triton and TRITON_INTERPRET=1",
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "width"), [(8, 128), (3, 6), (1, 32)])
def test_the_same_bits(
    heads: int, width: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, *others = parts(heads, width, dtype)
    assert supported(slots, *others[:3])
    ours, theirs = slots.clone(), slots.clone()
    add_change(ours, *others)
    monkeypatch.setattr(scatter_fused, "supported", lambda *_: False)
    add_change(theirs, *others)
    assert torch.equal(ours, theirs)
    assert int((ours != slots).any(1).any(-1).sum()) == KEPT  # nothing else is written


def test_in_float32_and_rounded_once() -> None:
    slots, own, weight, branch, row, example, position = parts(2, 4, torch.float32)
    for dtype in (torch.float32, torch.float16):
        ours = slots.to(dtype)
        add_change(ours, own.to(dtype), weight.to(dtype), branch.to(dtype), row, example, position)
        for token in range(KEPT):
            r, e, p = int(row[token]), int(example[token]), int(position[token])
            change = weight[token].to(dtype).double()[:, None] * branch[token].to(dtype).double()
            exact = own[e, :, p].to(dtype).double() + change
            torch.testing.assert_close(ours[r, :, p].double(), exact.to(dtype).double())
