"""Rows of different lengths in one pass give what each row gives alone."""

import pytest
import torch
from tiny import ARCHITECTURES, SLIDING_WINDOW, make_model, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import KVCache, geometry
from c2c.errors import C2CError
from c2c.pieces import AtOnce
from c2c.slot_cache import ATTENTION, extend, new_slots, next_logits, read, slot_attention

LENGTHS = [3, SLIDING_WINDOW + 12, 1, SLIDING_WINDOW, 14]
SLOTS = 40
ALL = AtOnce(1000, 1000)
AT_ONCE = [AtOnce(1, 1000), AtOnce(45, 1000), AtOnce(1000, 9), ALL]


def padded(ids: Tensor, seed: int = 1) -> Tensor:
    """Rows of LENGTHS tokens, then others."""
    noise = token_ids(len(LENGTHS), ids.shape[1], seed)
    real = torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[:, None]
    return torch.where(real, ids, noise)


def slots_of(model: PreTrainedModel) -> KVCache:
    shape = geometry(model.config)
    return new_slots(shape, len(LENGTHS), SLOTS, torch.float32, torch.device("cpu"))


def alone(model: PreTrainedModel, row: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(row[None]).logits[0, -1]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("at_once", AT_ONCE)
def test_reading_then_one_token(
    name: str, at_once: AtOnce, models: dict[str, PreTrainedModel]
) -> None:
    model, ids = models[name], token_ids(len(LENGTHS), max(LENGTHS) + 1)
    slots = slots_of(model)
    with slot_attention(model), torch.inference_mode():
        read(model, padded(ids)[:, :-1], LENGTHS, slots, at_once)
        places = torch.tensor(LENGTHS)
        last = ids.gather(1, places[:, None])[:, 0]
        logits = next_logits(model, last, places, slots, 32)
        # More slots in view change nothing.
        more = next_logits(model, last, places, slots, SLOTS)
    for row, length in enumerate(LENGTHS):
        expected = alone(model, ids[row, : length + 1])
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(more, logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("at_once", AT_ONCE)
def test_extending_from_a_place_of_each_row(
    name: str, at_once: AtOnce, models: dict[str, PreTrainedModel]
) -> None:
    """The first part of each row is read, the rest run on top, past the end of short rows too; of
    one row nothing."""
    model, total = models[name], max(LENGTHS) + 12
    ids = token_ids(len(LENGTHS), total, seed=4)
    slots = slots_of(model)
    starts = torch.tensor(LENGTHS)
    positions = starts[:, None] + torch.arange(11)
    last = starts + torch.tensor([3, 11, 0, 7, 10])  # the rows' ends, within what was run
    with slot_attention(model), torch.inference_mode():
        read(model, padded(ids), LENGTHS, slots, at_once)
        spans = list(zip(LENGTHS, last.tolist(), strict=True))
        extend(model, ids.gather(1, positions), spans, slots, at_once)
        tokens = ids.gather(1, last[:, None])[:, 0]
        logits = next_logits(model, tokens, last, slots, 40)
    for row, end in enumerate(last.tolist()):
        expected = alone(model, ids[row, : end + 1])
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=2e-5)


def test_later_slots_are_not_looked_at(models: dict[str, PreTrainedModel]) -> None:
    model, ids = models["qwen3"], token_ids(len(LENGTHS), 8)
    slots, places = slots_of(model), torch.tensor(LENGTHS).clamp(max=7)
    with slot_attention(model), torch.inference_mode():
        read(model, ids, [ids.shape[1]] * len(ids), slots, ALL)
        clean = next_logits(model, ids[:, 0], places, slots, 32)
        for tensor in (*slots.keys, *slots.values):
            for row, place in enumerate(places.tolist()):
                tensor[row, :, place + 1 :] = 1e4
        assert torch.equal(next_logits(model, ids[:, 0], places, slots, 32), clean)
        # The slot before is looked at.
        slots.values[0][:, :, 0] += 1
        assert not torch.allclose(next_logits(model, ids[:, 0], places, slots, 32), clean)


def test_the_attention_is_put_back_whatever_happens(models: dict[str, PreTrainedModel]) -> None:
    first, second = models["qwen2"], models["llama"]
    before = first.config._attn_implementation
    with pytest.raises(KeyError), slot_attention(first, second, first):
        assert first.config._attn_implementation == ATTENTION
        raise KeyError
    assert first.config._attn_implementation == second.config._attn_implementation == before


def test_a_plain_forward_inside_is_refused(models: dict[str, PreTrainedModel]) -> None:
    """Without its slots the attention function cannot know what to do, and does not guess."""
    model = models["qwen2"]
    with slot_attention(model), pytest.raises(C2CError, match="no plain causal attention"):
        model(token_ids(1, 4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer_types": ["chunked_attention"] * 2}, "layers of type chunked_attention"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rotary embedding"),
        ({"rope_parameters": {"full": {"rope_type": "longrope"}}}, "rotary embedding"),
    ],
)
def test_models_whose_rows_would_depend_on_each_other_are_refused(
    change: dict[str, object], words: str
) -> None:
    model = make_model("llama")
    for name, value in change.items():
        model.config.__dict__[name] = value
    with pytest.raises(C2CError, match=words), slot_attention(model):
        pass
    assert model.config._attn_implementation != ATTENTION
