"""Training on a toy task: what it learns, what it leaves alone, and what a kill costs (nothing)."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from tiny import (
    ARCHITECTURES,
    SLIDING_WINDOW,
    STOP_ID,
    make_fuser,
    make_model,
    make_tokenizer,
    token_ids,
)
from torch import Tensor
from torch.nn import functional as F
from toy_training import SETTINGS, SIZE, mixed_batch, padded, same, toy_batch, toy_parts
from transformers import PreTrainedModel

from c2c import training
from c2c.cache import KVCache, concatenate
from c2c.checkpoint import load_fuser
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.interface import Interface
from c2c.quantize import round_trip
from c2c.receiver import prefill
from c2c.sections import Runs, split
from c2c.sharer import read
from c2c.stacked_fuser import StackedFuser
from c2c.training import NotFinite, TrainingSettings, temperature, train_fuser
from c2c.training_batches import TokenBatches, chat_tokens, end_and_pad, json_lines
from c2c.training_loss import answer_loss, guard_loss, readings_of, unchanged
from c2c.training_readings import Batch


def train(folder: Path | None, settings: TrainingSettings = SETTINGS, **options: Any) -> Fuser:
    receiver, sharer, fuser = toy_parts()
    return train_fuser(receiver, sharer, fuser, toy_batch, settings, folder, **options)


@pytest.fixture(scope="module")
def undisturbed() -> Fuser:
    return train(None)


# What is learned, and what is left alone


def test_the_loss_falls_and_both_models_stay_bit_equal() -> None:
    receiver, sharer, fuser = toy_parts()
    frozen = [{n: t.clone() for n, t in m.state_dict().items()} for m in (receiver, sharer)]
    before = {n: t.clone() for n, t in fuser.state_dict().items()}
    losses: list[float] = []
    settings = TrainingSettings(steps=120, learning_rate=1e-2)
    trained = train_fuser(
        receiver,
        sharer,
        fuser,
        toy_batch,
        settings,
        on_step=lambda step, metrics: losses.append(metrics["loss"]),
    )
    assert trained is fuser
    assert len(losses) == 120
    assert sum(losses[:5]) / 5 > 5  # log(vocabulary) and more
    assert sum(losses[-5:]) < sum(losses[:5]) - 5 * 2
    for model, state in zip((receiver, sharer), frozen, strict=True):
        assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not fuser.training
    assert not any(p.requires_grad for p in fuser.parameters())
    assert not all(torch.equal(t, before[n]) for n, t in fuser.state_dict().items())
    # On prompts never seen, in the way that evaluation goes, the right one of the two is ahead.
    unseen = toy_batch(10_000)
    sent = read(sharer, unseen.prompt_ids)
    logits = prefill(
        receiver, unseen.prompt_ids, split(6, 1.0, "front"), lambda section, own: fuser(sent, own)
    ).logits
    assert (logits[:, 21] > logits[:, 20]).tolist() == (unseen.answer_ids[:, 0] == 21).tolist()


def test_temperature_falls_geometrically_and_stays_at_its_end() -> None:
    settings = TrainingSettings(steps=10)
    heats = [temperature(settings, step) for step in range(11)]
    assert heats[0] == 1.0
    assert heats[5] == pytest.approx(0.001**0.5)
    assert heats[10] == pytest.approx(0.001)
    early = replace(settings, anneal_steps=4)
    assert temperature(early, 2) == pytest.approx(0.001**0.5)
    assert temperature(early, 4) == temperature(early, 9) == pytest.approx(0.001)


def test_gates_are_annealed_and_the_rate_warms_up_and_falls() -> None:
    told: list[Mapping[str, float]] = []
    settings = TrainingSettings(steps=20, warmup_share=0.2)
    fuser = train(None, settings, on_step=lambda step, metrics: told.append(metrics))
    assert [m["gate_temperature"] for m in told] == pytest.approx(
        [0.001 ** (step / 20) for step in range(20)]
    )
    assert float(fuser.projector(0).gate_temperature) == pytest.approx(told[-1]["gate_temperature"])
    rates = [m["learning_rate"] for m in told]
    assert rates[:4] == pytest.approx([1e-4 * n / 4 for n in (1, 2, 3, 4)])
    assert rates[4:] == pytest.approx([1e-4 * n / 16 for n in range(15, -1, -1)])
    is_open = [fuser.projector(t).is_open(kind) for t in range(2) for kind in ("key", "value")]
    assert told[-1]["open_gates"] == sum(is_open)


def test_a_penalty_closes_gates() -> None:
    opened, closed = (
        train(None, TrainingSettings(steps=60, learning_rate=5e-2, gate_penalty=penalty))
        for penalty in (0.0, 30.0)
    )
    logits = [
        [p for name, p in fuser.named_parameters() if "gate" in name] for fuser in (opened, closed)
    ]
    assert sum(logits[1]) < sum(logits[0]) - 1
    assert closed.layers_read("key") == closed.layers_read("value") == ()


def test_accumulated_batches_are_averaged() -> None:
    """The step that two batches give is the one that both as a single batch give."""
    receiver, sharer, fuser = toy_parts()
    fuser.eval().requires_grad_(True)
    gradients = []
    for parts in ([0, 1], [(0, 1)]):
        fuser.zero_grad()
        for part in parts:
            numbers = part if isinstance(part, tuple) else (part,)
            made = [toy_batch(number) for number in numbers]
            batch = Batch(
                torch.cat([b.prompt_ids for b in made]), torch.cat([b.answer_ids for b in made])
            )
            loss = answer_loss(readings_of(receiver, sharer, batch, 5, "front"), fuser) / len(parts)
            loss.backward()
        gradients.append([p.grad.clone() for p in fuser.parameters() if p.grad is not None])
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# The loss


@pytest.mark.parametrize(("keep_ratio", "order"), [(1.0, "front"), (0.4, "front"), (0.4, "back")])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_is_that_of_what_evaluation_does(
    name: str, keep_ratio: float, order: str, models: dict[str, PreTrainedModel]
) -> None:
    receiver, sharer = models[name], models["qwen2"]
    fuser = make_fuser(sharer, receiver)
    ids, answers = token_ids(3, SLIDING_WINDOW + 6), token_ids(3, 2, seed=9)
    sections = split(ids.shape[1], keep_ratio, order)
    sent = read(sharer, ids)
    prefilled = prefill(
        receiver, ids, sections, lambda s, own: fuser(sent.section(s.start, s.stop), own)
    )
    first = prefilled.logits.log_softmax(-1).gather(1, answers[:, :1])
    with torch.inference_mode():
        output = receiver(answers[:, :1], past_key_values=prefilled.cache, use_cache=True)
    second = output.logits[:, -1].log_softmax(-1).gather(1, answers[:, 1:])
    kept = sum(s.stop - s.start for s in sections if s.sharer_mask > 0)
    with torch.no_grad():
        loss = answer_loss(readings_of(receiver, sharer, Batch(ids, answers), kept, order), fuser)
    wanted = float(-torch.cat([first, second]).mean())
    assert float(loss) == pytest.approx(wanted, abs=2e-5)


def cache_of(sharer: PreTrainedModel, ids: Tensor, start: int, stop: int) -> KVCache:
    return read(sharer, ids).section(start, stop)


@pytest.mark.parametrize("what", ["quantized", "another's"])
def test_what_is_fused_is_what_arrives(what: str, models: dict[str, PreTrainedModel]) -> None:
    receiver, sharer = models["qwen3"], models["qwen2"]
    fuser = make_fuser(sharer, receiver)
    ids, answers = token_ids(3, 13), token_ids(3, 1, seed=9)
    lent = cache_of(sharer, ids.roll(1, 0), 7, 12)

    def through(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
        assert sent.tokens == 5 and {*runs} == {(range(7, 12),)}
        if what == "quantized":
            return sent.map(lambda tensor: round_trip(tensor, 3))
        return lent.pick(rows)

    arrived = through(cache_of(sharer, ids, 7, 12), torch.arange(3), [(range(7, 12),)] * 3)
    logits = fuser.prefill(receiver, ids, split(13, 5 / 12, "back"), arrived).logits
    wanted = float(F.cross_entropy(logits, answers[:, 0]))
    with torch.no_grad():
        plain, found = (
            float(
                answer_loss(
                    readings_of(receiver, sharer, Batch(ids, answers), 5, "back"), fuser, each
                )
            )
            for each in (unchanged, through)
        )
    assert found == pytest.approx(wanted, abs=2e-5)
    assert abs(found - plain) > 1e-3


def test_what_arrives_is_known_by_its_row_whatever_lengths_there_are() -> None:
    receiver, sharer, fuser = toy_parts()
    lengths = (7, 3, 7, 5)
    together, alone = mixed_batch(lengths, pad=7)
    lent = [cache_of(sharer, token_ids(1, n, seed=90 + i), 0, n - 1) for i, n in enumerate(lengths)]

    def through(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
        return concatenate([lent[row] for row in rows.tolist()], dim=0)

    with torch.no_grad():
        found = float(
            answer_loss(readings_of(receiver, sharer, together, 6, "front"), fuser, through)
        )
        total = tokens = 0.0
        for cache, one in zip(lent, alone, strict=True):
            whole = one.prompt_ids.shape[1] - 1
            arrives = partial(lambda sent, rows, runs, cache: cache, cache=cache)
            loss = answer_loss(readings_of(receiver, sharer, one, whole, "front"), fuser, arrives)
            total += float(loss) * one.answer_ids.numel()
            tokens += one.answer_ids.numel()
    assert found == pytest.approx(total / tokens, abs=2e-5)


def test_a_guard_is_what_another_questions_message_does_more_harm_than_none() -> None:
    receiver, sharer, fuser = toy_parts()
    lengths = (7, 3, 7, 5, 7)
    together, alone = mixed_batch(lengths, pad=7)
    following = {0: 2, 2: 4, 4: 0}  # of the rows whose prompts are as long
    harms = []
    with torch.no_grad():
        for row, lender in following.items():
            whole = lengths[row] - 1
            message = cache_of(sharer, alone[lender].prompt_ids, 0, whole)
            lent = partial(lambda sent, rows, runs, message: message, message=message)
            by = [
                float(answer_loss(readings_of(receiver, sharer, alone[row], *part), fuser, *how))
                for part, how in (((whole, "front"), [lent]), ((0, "front"), []))
            ]
            harms.append(by[0] - by[1])

        def guard(tolerance: float) -> float:
            return float(
                guard_loss(readings_of(receiver, sharer, together, 6, "front"), fuser, tolerance)
            )

        for tolerance in (-9.0, min(harms), sorted(harms)[1], 9.0):
            expected = sum(max(0.0, harm - tolerance) for harm in harms) / len(harms)
            assert guard(tolerance) == pytest.approx(expected, abs=2e-5)
        lone, _ = mixed_batch((7, 3), pad=7)
        assert float(guard_loss(readings_of(receiver, sharer, lone, 6, "front"), fuser, -9.0)) == 0


def test_a_guard_has_no_prompt_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sharer, fuser = toy_parts()
    read_tokens: dict[str, list[int]] = {"receiver": [], "sharer": []}
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        plain = model.base_model.forward

        def spy(input_ids: Tensor, plain: Any = plain, name: str = name, **options: Any) -> Any:
            read_tokens[name].append(input_ids.shape[1])
            return plain(input_ids, **options)

        monkeypatch.setattr(model.base_model, "forward", spy)
    readings = readings_of(receiver, sharer, toy_batch(0), 5, "front")
    answer_loss(readings, fuser)
    guard_loss(readings, fuser, 0.0)
    # Each prompt but its last token once; then that and an answer of two, for each kind of message.
    assert read_tokens == {"receiver": [5, 3, 3, 3], "sharer": [5]}


def test_a_guard_is_told_and_lessens_the_harm() -> None:
    """The toy's messages harm nobody: below 0, the tolerance asks them to help more."""

    def harm(weight: float) -> tuple[float, list[float | None]]:
        told: list[float | None] = []
        settings = replace(TrainingSettings(30, 1e-2), guard_weight=weight, guard_tolerance=-9.0)
        receiver, sharer, fuser = toy_parts()

        def on_step(step: int, metrics: Mapping[str, float]) -> None:
            told.append(metrics.get("guard"))

        train_fuser(receiver, sharer, fuser, toy_batch, settings, on_step=on_step)
        with torch.no_grad():
            found = guard_loss(
                readings_of(receiver, sharer, toy_batch(99), 5, "front"), fuser, -9.0
            )
        return float(found), told

    (free, none), (guarded, told) = harm(0.0), harm(5.0)
    assert guarded < free - 0.1
    assert none == [None] * 30
    assert told[0] is not None and told[-1] is not None and told[-1] < told[0]


def test_gradients_reach_what_makes_the_message_another() -> None:
    receiver, sharer, fuser = toy_parts()
    scale = torch.ones((), requires_grad=True)
    batch = toy_batch(0)
    answer_loss(
        readings_of(receiver, sharer, batch, 5, "front"),
        fuser,
        lambda sent, rows, runs: sent.map(lambda x: x * scale),
    ).backward()
    assert scale.grad is not None and float(scale.grad.abs()) > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("kept", "order"), [(13, "front"), (7, "front"), (2, "front"), (5, "back")]
)
def test_padding_changes_no_rows_loss(
    name: str, kept: int, order: str, models: dict[str, PreTrainedModel]
) -> None:
    """`kept` counts in coordinates of the padded batch: 3 pads, 11 prompt tokens."""
    receiver, sharer = models[name], models["llama"]
    fuser = make_fuser(sharer, receiver, gates="open")
    left = 3
    prompt, answer = token_ids(1, SLIDING_WINDOW + 4)[0], token_ids(1, 3, seed=5)[0]
    assert left + len(prompt) - 1 == 13
    really_kept = max(0, kept - left) if order == "front" else kept
    with torch.no_grad():
        if really_kept:
            alone = answer_loss(
                readings_of(
                    receiver, sharer, Batch(prompt[None], answer[None]), really_kept, order
                ),
                fuser,
            )
        else:  # only pads are fused
            closed = make_fuser(sharer, receiver, gates="closed")
            batch = Batch(prompt[None], answer[None])
            alone = answer_loss(
                readings_of(receiver, sharer, batch, len(prompt) - 1, "front"), closed
            )
        ids, prompt_mask = padded(prompt, left)
        answers, answer_mask = padded(answer, 0, right=2)
        batch = Batch(ids, answers, prompt_mask, answer_mask)
        together = answer_loss(readings_of(receiver, sharer, batch, kept, order), fuser)
    assert float(together) == pytest.approx(float(alone), abs=2e-5)


def loss_and_gradients(
    batches: list[Batch], dtype: torch.dtype, device: str = "cpu"
) -> tuple[Tensor, list[Tensor]]:
    """Over all answer tokens of `batches`, each prompt fused whole, and by each weight."""
    receiver, sharer = (m.to(device=device, dtype=dtype) for m in toy_parts()[:2])
    fuser = make_fuser(sharer, receiver, size=SIZE, gates="open").to(device).requires_grad_(True)
    for projector in fuser.projectors:
        projector.gate_temperature.fill_(0.5)
    tokens = [
        b.answer_ids.numel() if b.answer_mask is None else b.answer_mask.sum() for b in batches
    ]
    losses = [
        answer_loss(readings_of(receiver, sharer, b, b.prompt_ids.shape[1] - 1, "front"), fuser)
        * int(n)
        for b, n in zip(batches, tokens, strict=True)
    ]
    loss = torch.stack(losses).sum() / sum(map(int, tokens))
    loss.backward()
    return loss.detach(), [p.grad for p in fuser.parameters() if p.grad is not None]


def check_mixed_lengths(dtype: torch.dtype, tolerance: float, device: str = "cpu") -> None:
    together, alone = mixed_batch((12, 3, 7, 3, 9), pad=7, device=device)
    loss, gradients = loss_and_gradients([together], dtype, device)
    wanted, wanted_gradients = loss_and_gradients(alone, dtype, device)
    assert bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in gradients)
    assert float(loss) == pytest.approx(float(wanted), rel=tolerance)
    assert len(gradients) == len(wanted_gradients) > 0
    one, other = (torch.cat([g.flatten() for g in gs]) for gs in (gradients, wanted_gradients))
    assert float((one - other).norm() / other.norm()) < 10 * tolerance
    # Not even a pad's embedding is read: the same bits whatever the pad is.
    assert torch.equal(
        loss_and_gradients([mixed_batch((12, 3, 7, 3, 9), 400, device)[0]], dtype, device)[0], loss
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)]
)
def test_prompts_of_several_lengths_train_as_each_alone(
    dtype: torch.dtype, tolerance: float
) -> None:
    check_mixed_lengths(dtype, tolerance)


def strongly_negative_scores(device: str) -> tuple[PreTrainedModel, PreTrainedModel, Fuser]:
    """Parts in bfloat16 whose receiver has scores of about -120 everywhere, as a head of Qwen2.5
    has: biases in the dimension that positions turn least."""
    receiver, sharer = make_model("qwen2", 1, layers=2), make_model("qwen2", 2, layers=2)
    for layer in receiver.base_model.layers:
        attention = layer.self_attn
        width = attention.head_dim
        large = (120 * width**0.5) ** 0.5
        with torch.no_grad():
            attention.q_proj.bias.view(-1, width)[:, width // 2 - 1] += large
            attention.k_proj.bias.view(-1, width)[:, width // 2 - 1] -= large
    fuser = make_fuser(sharer, receiver, size=SIZE, gates="open").train().requires_grad_(True)
    models = (model.to(device, torch.bfloat16) for model in (receiver, sharer))
    return *models, fuser.to(device)  # type: ignore[return-value]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tokens", [64, 192, 320])
def test_gradients_are_finite_where_all_scores_are_strongly_negative(tokens: int) -> None:
    receiver, sharer, fuser = strongly_negative_scores("cuda")
    batch = Batch(token_ids(4, tokens - 3).cuda(), token_ids(4, 3, seed=1).cuda())
    readings = readings_of(receiver, sharer, batch, tokens - 4, "front")
    answer_loss(readings, fuser).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in fuser.parameters())


def test_no_gradient_passes_cudnns_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradients are NaN for heads like Qwen2.5's; without gradients it may be taken."""
    receiver, sharer, fuser = toy_parts()
    fuser.train().requires_grad_(True)
    seen: set[tuple[bool, bool]] = set()
    for model in (receiver, sharer):
        for layer in model.base_model.layers:
            plain = layer.self_attn.forward

            def spy(*given: Any, plain: Any = plain, **options: Any) -> Any:
                seen.add((torch.is_grad_enabled(), torch.backends.cuda.cudnn_sdp_enabled()))
                return plain(*given, **options)

            monkeypatch.setattr(layer.self_attn, "forward", spy)
    answer_loss(readings_of(receiver, sharer, toy_batch(0), 5, "front"), fuser)
    assert seen == {(True, False), (False, True)}


@pytest.mark.parametrize("kind", ["key", "value"])
def test_layers_together_give_what_they_give_one_by_one(kind: str) -> None:
    """With more receiver layers than sharer layers, so that some sharer layers serve twice."""
    receiver, sharer = make_model("qwen3", 1, layers=3), make_model("qwen2", 2, layers=2)
    fuser = make_fuser(sharer, receiver, size=replace(SIZE, dropout=0.0))
    for projector in fuser.projectors:
        projector.gate_temperature.fill_(1e9)  # each gate half open, whatever its noise
    ids = token_ids(2, 9)
    sent, own = read(sharer, ids), read(receiver, ids)
    sent, own = (cache.map(torch.clone) for cache in (sent, own))  # of no inference mode

    def merged(interface: Interface) -> Tensor:
        result = torch.stack(getattr(interface.merge(sent, own), f"{kind}s"))
        (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
        return result

    one_by_one = merged(fuser.train().requires_grad_(True))
    expected = {name: p.grad for name, p in fuser.named_parameters() if p.grad is not None}
    stacked = StackedFuser(fuser)
    torch.testing.assert_close(merged(stacked), one_by_one)
    found = {
        f"projectors.{index}.{name}": grad
        for name, weight in stacked.weights().items()
        if weight.grad is not None
        for index, grad in enumerate(weight.grad)
    }
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_fuser_stays_in_step_with_its_weights_in_training() -> None:
    _, _, fuser = toy_parts()
    stacked = StackedFuser(fuser)
    with torch.no_grad():
        for number, weight in enumerate(stacked.parameters()):
            weight.fill_(number)
    names = list(stacked.weights())
    for projector in fuser.projectors:
        for name, parameter in projector.named_parameters():
            assert bool((parameter == names.index(name)).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_prompts_of_several_lengths_train_on_a_gpu_in_bf16() -> None:
    check_mixed_lengths(torch.bfloat16, 2e-2, "cuda")


def test_no_model_reads_a_pad_and_no_mask_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a mask that sees nothing is NaN in some kernels: there is none."""
    receiver, sharer, fuser = toy_parts()
    read_ids: list[Tensor] = []
    for model in (receiver, sharer):
        plain = model.base_model.forward

        def spy(input_ids: Tensor, plain: Any = plain, **options: Any) -> Any:
            assert options.get("attention_mask") is None
            read_ids.append(input_ids)
            return plain(input_ids, **options)

        monkeypatch.setattr(model.base_model, "forward", spy)
    batch, _ = mixed_batch((6, 4, 5), pad=STOP_ID)
    answer_loss(readings_of(receiver, sharer, batch, 5, "front"), fuser)
    assert len(read_ids) == 3 * 3
    assert all(STOP_ID not in ids[:, : -batch.answer_ids.shape[1]] for ids in read_ids[2::3])
    assert all(STOP_ID not in ids for part in (0, 1) for ids in read_ids[part::3])


@pytest.mark.parametrize("order", ["front", "back"])
@pytest.mark.parametrize("kept", [1, 3, 8])
def test_gradients_flow_when_a_part_is_fused(
    order: str, kept: int, models: dict[str, PreTrainedModel]
) -> None:
    receiver, sharer = models["llama"], models["gemma3"]
    fuser = make_fuser(sharer, receiver, gates="open").train().requires_grad_(True)
    torch.manual_seed(0)
    for projector in fuser.projectors:
        projector.gate_temperature.fill_(0.5)
    batch = Batch(token_ids(2, 9), token_ids(2, 2, seed=1))
    answer_loss(readings_of(receiver, sharer, batch, kept, order), fuser).backward()
    for name, parameter in fuser.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    assert all(p.grad is None for m in (receiver, sharer) for p in m.parameters())


# A run that is killed


def test_a_run_is_repeatable_and_checkpoints_change_nothing(
    tmp_path: Path, undisturbed: Fuser
) -> None:
    torch.rand(3)  # what was drawn before does not matter
    assert same(train(tmp_path), undisturbed)
    # The newest two are kept.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000009", "step_00000010"]
    *_, fuser = toy_parts()
    saved = load_fuser(tmp_path / "step_00000010" / "fuser", fuser.sharer, fuser.receiver)
    assert same(saved, undisturbed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, undisturbed: Fuser) -> None:
    train(tmp_path)
    steps: list[int] = []
    again = train(tmp_path, on_step=lambda step, metrics: steps.append(step))
    assert steps == []
    assert same(again, undisturbed)
    assert not again.training


@pytest.mark.parametrize("writes", [1, 2, 3, 4, 6, 8, 12])
def test_dying_within_a_checkpoint_loses_only_that_checkpoint(
    tmp_path: Path, undisturbed: Fuser, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two projectors and the optimizer: three files a checkpoint, and four checkpoints."""
    save, left = torch.save, writes

    def die(content: Any, path: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        save(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    steps: list[int] = []
    resumed = train(tmp_path, on_step=lambda step, metrics: steps.append(step))
    assert steps[0] == 3 * ((writes - 1) // 3) + 1
    assert same(resumed, undisturbed)
    assert not (tmp_path / "partial").exists()


def child(folder: Path) -> tuple[BaseProcess, IO[str]]:
    """A process that trains, forked since it would take seconds to import the same; and the steps
    that it has made, a line each."""
    steps, theirs = os.pipe()

    def tell(step: int, metrics: Mapping[str, float]) -> None:
        os.write(theirs, f"{step}\n".encode())
        time.sleep(0.05)  # so that the kill comes before the end

    process = get_context("fork").Process(target=train, args=(folder,), kwargs={"on_step": tell})
    process.start()
    os.close(theirs)
    return process, os.fdopen(steps)


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path: Path, undisturbed: Fuser) -> None:
    process, made = child(tmp_path)
    with made:
        assert "8\n" in made  # after the checkpoint of step 6, before that of step 9
        process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "step_00000006").is_dir()
    assert not (tmp_path / "step_00000010").exists()
    steps: list[int] = []
    resumed = train(tmp_path, on_step=lambda step, metrics: steps.append(step))
    assert steps[0] in (7, 10)
    assert same(resumed, undisturbed)


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(tmp_path: Path, undisturbed: Fuser) -> None:
    kills = 0
    for steps, delay in ((1, 0.0), (4, 0.02), (2, 0.0), (1, 0.04), (3, 0.01), (2, 0.03)):
        process, made = child(tmp_path)
        with made:
            for _ in range(steps):
                made.readline()
            time.sleep(delay)
            process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills > 1
    assert same(train(tmp_path), undisturbed)


def test_checkpoints_of_other_settings_are_refused(tmp_path: Path) -> None:
    train(tmp_path, replace(SETTINGS, steps=1))
    for changed in (
        replace(SETTINGS, steps=2),
        replace(SETTINGS, steps=1, seed=1),
        replace(SETTINGS, steps=1, learning_rate=2e-2),
    ):
        with pytest.raises(C2CError, match=f"{tmp_path} holds checkpoints of a run with other"):
            train(tmp_path, changed)


# A step that is not finite


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the gradient of projectors.1.value_in.weight NaN, in the newest training, from now."""
    made: list[StackedFuser] = []

    def keep(fuser: Fuser) -> StackedFuser:
        made.append(StackedFuser(fuser))
        return made[-1]

    def to_nan(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt[1] = float("nan")
        return spoilt

    monkeypatch.setattr(training, "StackedFuser", keep)

    def now() -> None:
        made[-1].weights()["value_in.weight"].register_hook(to_nan)

    return now


def test_a_step_waits_for_the_device_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all that it tells of what was computed, and for the gates as they are then."""
    waits, by_step = [], []
    for name in ("__float__", "__bool__", "item", "tolist"):
        asked = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda x, ask=asked: waits.append(x) or ask(x))

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        assert {"loss", "guard", "gradient_norm", "open_gates"} <= {*metrics}
        by_step.append(len(waits))

    train_fuser(*toy_parts(), toy_batch, replace(SETTINGS, steps=4), on_step=on_step)
    assert [after - before for before, after in pairwise(by_step)] == [2, 2, 2]


@pytest.mark.parametrize("what", ["loss", "gradient", "largest weight"])
def test_a_number_that_is_not_finite_ends_training(
    tmp_path: Path, what: str, spoil: Callable[[], None]
) -> None:
    """At step 5: the checkpoint of step 3 stays, and there is none from step 5 on."""
    receiver, sharer, fuser = toy_parts()
    settings = replace(SETTINGS, checkpoint_every=1 if what == "largest weight" else 3, steps=8)

    def batches(number: int) -> Batch:
        batch = toy_batch(number)
        if number == 2 * 4:
            if what == "loss":  # no token of any answer counts
                batch = replace(batch, answer_mask=torch.zeros_like(batch.answer_ids))
            elif what == "gradient":
                spoil()
        return batch

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if what == "largest weight" and step == 5:  # as a step that overflows 16 bits leaves it
            fuser.get_parameter("projectors.0.key_in.weight").data[0, 0] = float("inf")

    with pytest.raises(NotFinite, match=rf"ended at step 5: its {what} is (nan|inf); try") as error:
        train_fuser(receiver, sharer, fuser, batches, settings, tmp_path, on_step)
    newest = tmp_path / "step_00000004"
    assert f"kept in {newest}" in str(error.value) and "\n" not in str(error.value)
    assert max(tmp_path.iterdir()) == newest
    load_fuser(newest / "fuser", fuser.sharer, fuser.receiver)


def test_the_weights_before_a_bad_step_are_kept_and_go_on(
    tmp_path: Path, spoil: Callable[[], None]
) -> None:
    """With models in bfloat16, as on a GPU; a checkpoint is due at step 3, and step 5 is bad."""
    settings = replace(SETTINGS, steps=6)

    def train_in_bf16(folder: Path | None, spoilt: bool, steps: list[int]) -> Fuser:
        receiver, sharer, fuser = toy_parts()

        def batches(number: int) -> Batch:
            if spoilt and number == 2 * 4 + 1:
                spoil()
            return toy_batch(number)

        models = (receiver.bfloat16(), sharer.bfloat16())
        return train_fuser(
            *models, fuser, batches, settings, folder, lambda step, _: steps.append(step)
        )

    with pytest.raises(NotFinite) as error:
        train_in_bf16(tmp_path, True, [])
    assert error.value.evidence == {
        "step": 5,
        "number": "gradient",
        "value": "nan",
        "batches": [8, 9],
        "gradients": ["projectors.1.value_in.weight"],
        "checkpoint": str(tmp_path / "step_00000004"),
    }
    steps: list[int] = []
    resumed = train_in_bf16(tmp_path, False, steps)
    assert steps == [5, 6]
    assert same(resumed, train_in_bf16(None, False, []))


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    """They were spoilt at step 4 and are found by the loss of step 5."""
    receiver, sharer, fuser = toy_parts()

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == 4:
            fuser.get_parameter("projectors.0.key_in.weight").data[:] = float("nan")

    with pytest.raises(NotFinite, match="ended at step 5: its loss is nan") as error:
        train_fuser(receiver, sharer, fuser, toy_batch, SETTINGS, tmp_path, on_step)
    assert error.value.evidence["checkpoint"] == str(tmp_path / "step_00000003")


# Conversations


def write_chats(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def chat_batches(path: Path, batch_size: int, seed: int = 42) -> TokenBatches:
    """Batches of a file of chats."""
    tokenizer = make_tokenizer()
    end, pad = end_and_pad(tokenizer)
    pairs = [
        chat_tokens(tokenizer, end, row, f"{path}, line {number}")
        for number, row in enumerate(json_lines(path), start=1)
    ]
    return TokenBatches(pairs, pad, batch_size, seed)


def test_batches_hold_the_conversations_padded_on_the_outside(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    rows = [chat("is it red?", "no"), chat("what color is the question?", "blue and green")]
    batches = chat_batches(write_chats(tmp_path / "chats.jsonl", rows), batch_size=2)
    batch = batches(0)
    assert batch.prompt_mask is not None and batch.answer_mask is not None
    found = set()
    for row in range(2):
        prompt = batch.prompt_ids[row][batch.prompt_mask[row].bool()].tolist()
        answer = batch.answer_ids[row][batch.answer_mask[row].bool()].tolist()
        assert batch.prompt_mask[row].tolist() == sorted(batch.prompt_mask[row].tolist())
        assert batch.answer_mask[row].tolist() == sorted(batch.answer_mask[row].tolist())[::-1]
        assert answer.pop() == tokenizer.eos_token_id
        found.add((tokenizer.decode(prompt), tokenizer.decode(answer)))
    assert found == {
        (f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n", a)
        for q, a in [("is it red?", "no"), ("what color is the question?", "blue and green")]
    }
    assert 0 in batch.prompt_mask and 0 in batch.answer_mask  # both were padded somewhere
    pads = batch.prompt_ids[batch.prompt_mask == 0]
    assert set(pads.tolist()) == {tokenizer.pad_token_id}


def test_every_epoch_holds_each_conversation_once_in_another_order(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    rows = [chat(f"question {number}", str(number)) for number in range(9)]
    path = write_chats(tmp_path / "chats.jsonl", rows)
    batches = chat_batches(path, batch_size=3, seed=5)

    def answers(number: int, source: TokenBatches = batches) -> list[str]:
        ids = source(number).answer_ids
        return [tokenizer.decode(row, skip_special_tokens=True) for row in ids]

    epochs = [[a for n in range(3) for a in answers(3 * epoch + n)] for epoch in range(3)]
    assert all(sorted(epoch) == [str(n) for n in range(9)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    # Any batch can be had at any time, in another process too.
    again = chat_batches(path, batch_size=3, seed=5)
    assert [answers(n, again) for n in (7, 2)] == [answers(7), answers(2)]
    other = chat_batches(path, batch_size=3, seed=6)
    assert [answers(n, other) for n in range(3)] != [answers(n) for n in range(3)]


@pytest.mark.parametrize(
    ("size", "common", "rare"),
    [(3, (9, 4), 0), (4, (26, 5, 4), 3), (8, (19,), 9), (4, (7, 6), 11), (5, (), 3)],
)
def test_a_batch_holds_one_length_and_each_conversation_comes_equally_often(
    size: int, common: tuple[int, ...], rare: int
) -> None:
    """`common` conversations have lengths of a batch and more; of `rare`, two share a length."""
    lengths = [2 + i for i, count in enumerate(common) for _ in range(count)]
    lengths += [20 + i // 2 for i in range(rare)]
    pairs = [([1] * length, [2]) for length in lengths]
    batches = TokenBatches(pairs, 0, size, seed=5)
    epochs = 6
    seen = [batches.rows(number) for number in range(batches._batches_before(epochs))]
    for number, rows in enumerate(seen):
        found = {lengths[row] for row in rows}
        assert len(rows) == size
        assert len(found) == 1 or min(found) >= 20
        assert (batches(number).prompt_mask is None) == (len(found) == 1)
        assert len(found) <= size // 2 + 1  # of the rare ones, those alike in length
    counts = Counter(row for rows in seen for row in rows)
    for place in (range(sum(common)), range(sum(common), len(lengths))):
        if len(place) >= size:
            assert {counts[row] for row in place} <= {epochs - 1, epochs}
        assert epochs * len(place) - sum(counts[row] for row in place) < size * max(1, len(common))
    # Shuffled anew, and any batch can be had at any time.
    assert seen[: len(seen) // 2] != seen[len(seen) // 2 :]
    again = TokenBatches(pairs, 0, size, seed=5)
    assert [again.rows(number) for number in reversed(range(len(seen)))] == seen[::-1]
    assert [TokenBatches(pairs, 0, size, seed=6).rows(n) for n in range(len(seen))] != seen


def test_the_loss_of_a_padded_batch_is_that_of_its_conversations(
    tmp_path: Path, models: dict[str, PreTrainedModel]
) -> None:
    receiver, sharer = models["qwen3"], models["qwen2"]
    fuser = make_fuser(sharer, receiver)
    rows = [chat("what?", "red, green"), chat("a longer question, is it?", "no"), chat("x", "y z")]
    batches = chat_batches(write_chats(tmp_path / "c.jsonl", rows), batch_size=3)
    batch = batches(0)
    assert batch.answer_mask is not None
    with torch.no_grad():
        whole = batch.prompt_ids.shape[1] - 1
        together = answer_loss(readings_of(receiver, sharer, batch, whole, "front"), fuser)
        total = 0.0
        for prompt, answer in batches.pairs:
            one = Batch(torch.tensor([prompt]), torch.tensor([answer]))
            loss = answer_loss(readings_of(receiver, sharer, one, len(prompt) - 1, "front"), fuser)
            total += float(loss) * len(answer)
    assert float(together) == pytest.approx(total / float(batch.answer_mask.sum()), abs=2e-5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"messages": "\xff"}', "not JSON"),
        (b"[]", "not a conversation"),
        (b"3", "not a conversation"),
        (b'{"turns": []}', "not a conversation: 'messages'"),
        (b'{"messages": []}', "not a conversation"),
        (b'{"messages": 3}', "not a conversation"),
        (b'{"messages": {"a": 1, "b": 2}}', "not a conversation"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "after at least one other"),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
            "last message must be the assistant's",
        ),
        (b'{"messages": [{"content": "x"}, {"role": "assistant", "content": "y"}]}', "'role'"),
        (b'{"messages": [{"role": "user"}, {"role": "assistant", "content": "y"}]}', "'content'"),
        (
            b'{"messages": [{"role": "user", "content": 3},'
            b' {"role": "assistant", "content": "y"}]}',
            "must be text",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"},'
            b' {"role": "assistant", "content": ["y"]}]}',
            "must be text",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"},'
            b' {"role": "assistant", "content": "\\ud800"}]}',
            "not a conversation",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_a_malformed_line_is_named_by_file_and_line(
    tmp_path: Path, line: bytes, words: str
) -> None:
    path = tmp_path / "chats.jsonl"
    good = json.dumps(chat("a", "b")).encode()
    path.write_bytes(b"\n".join([good, line, good]))
    with pytest.raises(C2CError, match=f"{path}, line 2: .*{words}"):
        chat_batches(path, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(C2CError, match=f"{tmp_path / 'none.jsonl'} cannot be read"):
        chat_batches(tmp_path / "none.jsonl", 1)
