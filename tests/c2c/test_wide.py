"""Numbers that are moved many bytes at a time are those that are moved one by one."""

import pytest
import torch
from torch import Tensor

from c2c.wide import clear, contiguous, put, take

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 8, 64])
def test_moved_as_they_are(dtype: torch.dtype, width: int) -> None:
    source = drawn(3, 2, 5, width, dtype=dtype)
    source[0, 0, 0, 0] = torch.nan
    source[2, 1, 4] = torch.tensor(-torch.nan)
    rows, places = torch.tensor([2, 0]), torch.tensor([4, 1])
    taken = take(source, (rows, slice(None), places))
    assert torch.equal(taken.view(torch.uint8), source[rows, :, places].view(torch.uint8))

    target = drawn(3, 2, 7, width, dtype=dtype, seed=1)
    expected = target.clone()
    expected[:, :, 1:6] = source
    put(target, (slice(None), slice(None), slice(1, 6)), source)
    torch.testing.assert_close(target, expected, rtol=0, atol=0, equal_nan=True)

    expected[..., 5:, :] = 0
    clear(target, (..., slice(5, None), slice(None)))
    torch.testing.assert_close(target, expected, rtol=0, atol=0, equal_nan=True)

    turned = contiguous(source.transpose(1, 2))
    assert turned.is_contiguous()
    assert torch.equal(turned.nan_to_num(), source.transpose(1, 2).nan_to_num())


def test_what_does_not_lie_so_in_memory_is_moved_all_the_same() -> None:
    whole = drawn(2, 3, 5, 9)
    for source in (whole[..., 1:], whole[..., :8], whole.transpose(2, 3)):
        index = (torch.tensor([1]), slice(None), torch.tensor([2]))
        assert torch.equal(take(source, index), source[index])
        assert torch.equal(contiguous(source), source)
    target = torch.zeros(2, 3, 5, 8)
    put(target, (...,), whole[..., :8])  # of another type
    assert torch.equal(target, whole[..., :8].float())
