"""The receiver's prefill and decoding against transformers' own, for every pair of models."""

import itertools

import pytest
import torch
from tiny import ARCHITECTURES, SLIDING_WINDOW, make_fuser, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c.cache import KVCache, from_transformers
from c2c.receiver import Prefilled, greedy, prefill
from c2c.sections import Section, split
from c2c.sharer import read

TOKENS = SLIDING_WINDOW + 9
CUTS = [(1.0, "front"), (0.5, "front"), (0.3, "back")]


def not_fused(section: Section, own: KVCache) -> KVCache:
    return own


def whole(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The last position's logits, in one plain forward."""
    with torch.inference_mode():
        return model(ids).logits[:, -1]


def generated(
    model: PreTrainedModel, ids: Tensor, tokens: int, stop: int | None
) -> list[list[int]]:
    """transformers' greedy decoding of each row alone, without the stop token."""
    answers = []
    for row in ids:
        out = model.generate(
            row[None],
            attention_mask=torch.ones_like(row[None]),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=0,
        )[0, len(row) :].tolist()
        answers.append(out[: out.index(stop)] if stop in out else out)
    return answers


def ready(model: PreTrainedModel, ids: Tensor) -> Prefilled:
    return prefill(model, ids, split(ids.shape[1], 0.0, "front"), not_fused)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("keep_ratio", "order"), CUTS)
def test_sections_without_fusion_equal_one_forward(
    name: str, keep_ratio: float, order: str, models: dict[str, PreTrainedModel]
) -> None:
    model, ids = models[name], token_ids(3, TOKENS)
    sections = split(TOKENS, keep_ratio, order)
    prefilled = prefill(model, ids, sections, not_fused)
    torch.testing.assert_close(prefilled.logits, whole(model, ids), rtol=0, atol=2e-5)
    answers = greedy(model, prefilled, 10)
    assert answers == generated(model, ids, 10, None)


@pytest.mark.parametrize(
    ("receiver_name", "sharer_name"), list(itertools.product(ARCHITECTURES, ARCHITECTURES))
)
def test_every_pair_fuses_and_closed_gates_leave_the_receiver_bit_equal(
    receiver_name: str, sharer_name: str, models: dict[str, PreTrainedModel]
) -> None:
    receiver, sharer = models[receiver_name], models[sharer_name]
    ids = token_ids(2, TOKENS)
    sent = read(sharer, ids)
    for keep_ratio, order in CUTS:
        sections = split(TOKENS, keep_ratio, order)

        def fused(gates: str, sections: list[Section] = sections) -> Prefilled:
            fuser = make_fuser(sharer, receiver, gates=gates)
            return prefill(
                receiver,
                ids,
                sections,
                lambda section, own: fuser(sent.section(section.start, section.stop), own),
            )

        plain = prefill(receiver, ids, sections, not_fused)
        closed = fused("closed")
        assert torch.equal(closed.logits, plain.logits)
        ours, theirs = from_transformers(closed.cache), from_transformers(plain.cache)
        for a, b in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
            assert torch.equal(a, b)
        mixed = fused("mixed")
        assert bool(torch.isfinite(mixed.logits).all())
        assert float((mixed.logits - plain.logits).abs().amax(-1).min()) > 1e-3
        assert greedy(receiver, closed, 5) == greedy(receiver, plain, 5)


def test_a_fused_section_is_overwritten_and_seen_by_what_follows(
    models: dict[str, PreTrainedModel],
) -> None:
    model, ids = models["qwen3"], token_ids(1, 9)
    sections = split(9, 0.5, "front")  # 4 fused, 5 not
    seen: list[tuple[int, int]] = []

    def doubled(section: Section, own: KVCache) -> KVCache:
        assert own.tokens == section.stop - section.start
        seen.append((section.start, section.stop))
        return own.map(lambda tensor: tensor * 2)

    prefilled = prefill(model, ids, sections, doubled)
    assert seen == [(0, 4)]
    cache = from_transformers(prefilled.cache)
    plain = prefill(model, ids, sections, not_fused)
    before = from_transformers(plain.cache)
    for ours, theirs in zip(cache.keys, before.keys, strict=True):
        assert torch.equal(ours[:, :, :4], theirs[:, :, :4] * 2)
    # The first layer's keys depend on nothing before them, the last layer's do.
    assert torch.equal(cache.keys[0][:, :, 4:], before.keys[0][:, :, 4:])
    assert not torch.allclose(cache.keys[-1][:, :, 4:], before.keys[-1][:, :, 4:])
    assert not torch.allclose(prefilled.logits, plain.logits)


def test_the_last_section_is_never_fused_whatever_its_mark(
    models: dict[str, PreTrainedModel],
) -> None:
    def refuse(section: Section, own: KVCache) -> KVCache:
        raise AssertionError("fused the last section")

    ids = token_ids(1, 6)
    prefilled = prefill(models["llama"], ids, [Section(1, 0, 6)], refuse)
    torch.testing.assert_close(prefilled.logits, whole(models["llama"], ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_that_leave_the_batch_change_no_other_row(
    name: str, models: dict[str, PreTrainedModel]
) -> None:
    model, ids = models[name], token_ids(6, TOKENS, seed=3)
    free = greedy(model, ready(model, ids), 16)
    # Stop tokens from the middle of answers, so that rows leave one after the other.
    stop = free[0][6]
    together = greedy(model, ready(model, ids), 16, {stop})
    assert together == generated(model, ids, 16, stop)
    for row in range(len(ids)):
        assert greedy(model, ready(model, ids[row : row + 1]), 16, {stop}) == [together[row]]
        cut = free[row].index(stop) if stop in free[row] else None
        assert together[row] == free[row][:cut]
    stops = {free[0][6], free[1][3], free[2][0], free[3][10]}
    many = greedy(model, ready(model, ids), 16, stops)
    assert len({len(answer) for answer in many}) >= 3
    for answer, whole_answer in zip(many, free, strict=True):
        assert answer == list(itertools.takewhile(lambda t: t not in stops, whole_answer))


def test_decoding_ends_at_its_limit_and_when_all_rows_have_ended(
    models: dict[str, PreTrainedModel],
) -> None:
    model, ids = models["qwen2"], token_ids(2, 5)
    first = ready(model, ids).logits.argmax(-1).tolist()
    assert greedy(model, ready(model, ids), 3, set(first)) == [[], []]
    assert greedy(model, ready(model, ids), 0) == [[], []]
    assert [len(answer) for answer in greedy(model, ready(model, ids), 1)] == [1, 1]
    # The last token is not run through the model: nothing would be read from it.
    prefilled = ready(model, ids)
    greedy(model, prefilled, 4)
    assert from_transformers(prefilled.cache).tokens == 5 + 3
