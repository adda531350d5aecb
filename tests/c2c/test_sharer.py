import pytest
import torch
from tiny import ARCHITECTURES, SLIDING_WINDOW, token_ids
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, from_transformers
from c2c.errors import C2CError
from c2c.receiver import extend
from c2c.sections import split
from c2c.sharer import checked, read

TOKENS = SLIDING_WINDOW + 8


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("keep_ratio", "order"), [(0.5, "front"), (0.3, "back"), (0.0, "front")])
def test_one_pass_equals_reading_section_by_section(
    name: str, keep_ratio: float, order: str, models: dict[str, PreTrainedModel]
) -> None:
    model, ids = models[name], token_ids(3, TOKENS)
    cache = DynamicCache()
    for section in split(TOKENS, keep_ratio, order):
        extend(model, cache, ids[:, section.start : min(section.stop, TOKENS - 1)])
        if section.stop >= TOKENS - 1:
            break
    by_section = from_transformers(cache)
    whole = read(model, ids)
    assert whole.tokens == by_section.tokens == TOKENS - 1
    for ours, theirs in zip(
        (*whole.keys, *whole.values), (*by_section.keys, *by_section.values), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_reads_the_same_alone_as_in_a_batch(
    name: str, models: dict[str, PreTrainedModel]
) -> None:
    ids = token_ids(4, TOKENS)
    together = read(models[name], ids)
    for row in range(4):
        alone = read(models[name], ids[row : row + 1])
        for ours, theirs in zip(alone.values, together.values, strict=True):
            torch.testing.assert_close(ours, theirs[row : row + 1], rtol=0, atol=2e-5)


def test_the_last_token_is_not_read(models: dict[str, PreTrainedModel]) -> None:
    ids = token_ids(1, 5)
    other = ids.clone()
    other[0, -1] = 400 if ids[0, -1] != 400 else 401
    first, second = read(models["llama"], ids), read(models["llama"], other)
    assert all(torch.equal(a, b) for a, b in zip(first.keys, second.keys, strict=True))


def test_a_prompt_of_one_token_has_no_instruction(models: dict[str, PreTrainedModel]) -> None:
    with pytest.raises(C2CError, match="at least two tokens"):
        read(models["qwen2"], token_ids(1, 1))


def test_a_cache_of_another_shape_than_the_config_promises_is_refused(
    models: dict[str, PreTrainedModel],
) -> None:
    cache = read(models["qwen2"], token_ids(1, 4))
    assert checked(cache, models["qwen2"]) is cache
    with pytest.raises(C2CError, match="3 layers of 2 heads x 8, its config says 4 of 2 x 12"):
        checked(cache, models["qwen3"])
    shorter = KVCache(cache.keys[:-1], cache.values[:-1])
    with pytest.raises(C2CError, match="2 layers of 2 heads x 8, its config says 3 of 2 x 8"):
        checked(shorter, models["qwen2"])
