"""A prefix between two models: what it makes, where it begins, and what its training learns."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_training
from tiny import make_model, randomize, token_ids
from torch import Tensor
from torch.nn import functional as F
from toy_prefix import SIZE, message_batch, toy_batch, toy_parts
from transformers import DynamicCache, PreTrainedModel

from c2c.cache import KVCache, from_transformers, geometry
from c2c.checkpoint import MAP_FILE, load, load_fuser, save_fuser
from c2c.errors import C2CError
from c2c.interface import Interface
from c2c.prefix_fit import fit_linear, read_alike
from c2c.prefix_projector import ProjectedPrefix, new_prefix
from c2c.processes import Processes
from c2c.stacked_fuser import StackedPrefix
from c2c.training import TrainingSettings, train_fuser
from c2c.training_batches import TokenBatches
from c2c.training_loss import answer_loss, guard_loss, readings_of
from c2c.training_readings import Batch
from latentwire.channel.rope import inverse_frequencies

SETTINGS = replace(toy_training.SETTINGS, gate_penalty=0.0)  # it has no gates


@torch.no_grad()
def cache_of(model: PreTrainedModel, ids: Tensor) -> KVCache:
    cache = DynamicCache()
    model(ids, past_key_values=cache)
    return from_transformers(cache)


def randomized(dropout: float = 0.0) -> tuple[PreTrainedModel, PreTrainedModel, ProjectedPrefix]:
    receiver, sharer, prefix = toy_parts(dropout)
    randomize(prefix, seed=3)
    return receiver, sharer, prefix.eval()


# What it makes


def test_a_model_is_fitted_to_itself() -> None:
    """Then the map is the identity, and what arrives is what the receiver would have read."""
    model = make_model("qwen3", 1)
    shape, frequencies = geometry(model.config), inverse_frequencies(model)
    prefix = new_prefix(shape, shape, SIZE, (frequencies, frequencies)).eval()
    rows = [token_ids(16, 60, n).tolist() for n in range(4)]
    texts = [read_alike([*each[:8], *(row[:40] for row in each[8:])]) for each in rows]
    shifted = [each._replace(sharer_places=each.sharer_places.roll(1)) for each in texts]
    assert fit_linear(prefix, model, model, shifted) < 0.7
    assert fit_linear(prefix, model, model, texts) > 0.99
    ids = token_ids(2, 30, seed=99)
    own = cache_of(model, ids)
    with torch.no_grad():
        made = prefix.prepare(own, torch.arange(30))
    for one, other in zip((*made.keys, *made.values), (*own.keys, *own.values), strict=True):
        assert float((one - other).abs().mean()) < 0.02 * float(other.abs().mean())


def test_pads_are_no_part_of_a_fit() -> None:
    receiver, sharer, prefix = toy_parts()
    again = toy_parts(fitted=False)[2]
    short = token_ids(8, 40)
    filled = torch.cat([short, token_ids(8, 9, seed=5)], dim=1)
    texts = read_alike(short.tolist())._replace(sharer_ids=filled, receiver_ids=filled)
    explained = fit_linear(again, receiver, sharer, [texts])
    assert 0.05 < explained < 1
    torch.testing.assert_close(again.state_dict(), prefix.state_dict())


def test_each_token_is_made_at_its_own_position() -> None:
    _, sharer, prefix = randomized()
    received = cache_of(sharer, token_ids(2, 9))
    places = torch.tensor([[0, 3, 7], [2, 4, 8]])
    with torch.no_grad():
        whole = prefix.prepare(received, torch.arange(9))
        index = places[:, None, :, None]
        part = prefix.prepare(
            received.map(lambda x: x.gather(2, index.expand(-1, x.shape[1], -1, x.shape[3]))),
            places,
        )
    for one, other in zip((*part.keys, *part.values), (*whole.keys, *whole.values), strict=True):
        expected = other.gather(2, index.expand(-1, other.shape[1], -1, other.shape[3]))
        torch.testing.assert_close(one, expected)
    # The same token elsewhere is the same key, turned.
    with torch.no_grad():
        again = prefix.prepare(received, torch.arange(5, 14))
    assert not torch.allclose(again.keys[0], whole.keys[0], atol=1e-2)
    assert torch.equal(prefix.prepare(received, torch.arange(9)).values[0], whole.values[0])


def test_in_16_bits_large_constant_parts_are_no_loss(tmp_path: Path) -> None:
    """Means of hundreds stay in float32, beside weights in bfloat16."""
    _, sharer, prefix = toy_parts(dropout=0.0)
    received = cache_of(sharer, token_ids(2, 9))
    for projector in prefix.projectors:
        projector.get_buffer("read_mean")[sharer.config.num_key_value_heads * 8 :] += 358
        projector.get_buffer("made_mean").add_(100)
    shifted = KVCache(received.keys, tuple(value + 358 for value in received.values))
    still = prefix.eval().prepare(shifted, torch.arange(9))
    save_fuser(prefix, tmp_path / "final")
    shapes = prefix.sharer, prefix.receiver
    short = load(ProjectedPrefix, tmp_path / "final", *shapes, torch.bfloat16)
    found = short.prepare(shifted, torch.arange(9))
    for one, other in zip(found.values, still.values, strict=True):
        torch.testing.assert_close(one, other, atol=0.1, rtol=0)


def test_layers_together_give_what_they_give_one_by_one() -> None:
    """With more receiver layers than sharer layers, so that some sharer layers serve twice."""
    _, sharer, prefix = randomized()
    received = cache_of(sharer, token_ids(2, 9)).map(torch.clone)
    positions = torch.stack([torch.arange(9), torch.arange(2, 11)])

    def made(interface: Interface) -> Tensor:
        front = interface.prepare(received, positions)
        assert front is not None
        result = torch.stack([*front.keys, *front.values])
        (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
        return result

    one_by_one = made(prefix.train().requires_grad_(True))
    expected = {name: p.grad for name, p in prefix.named_parameters()}
    stacked = StackedPrefix(prefix)
    torch.testing.assert_close(made(stacked), one_by_one)
    found = {
        f"projectors.{index}.{name}": grad
        for name, weight in stacked.weights().items()
        for index, grad in enumerate(weight.grad if weight.grad is not None else ())
    }
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# The loss


@pytest.mark.parametrize(("kept", "order"), [(9, "front"), (4, "front"), (4, "back")])
def test_the_loss_is_that_of_what_evaluation_does(kept: int, order: str) -> None:
    """Messages of several lengths, of which a part is sent."""
    receiver, sharer, prefix = randomized()
    batch, texts = message_batch((9, 4, 6, 9))
    with torch.no_grad():
        found = float(answer_loss(readings_of(receiver, sharer, batch, kept, order), prefix))
    losses = []
    for row, text in enumerate(texts):
        count = int(len(text) * kept / 9)
        places = torch.arange(len(text))
        places = places[:count] if order == "front" else places[len(text) - count :]
        received = cache_of(sharer, text[None]).at(places)
        ids = batch.prompt_ids[row : row + 1]
        prefilled = prefix.prefill_behind(receiver, ids, received, places, len(text))
        answer = batch.answer_ids[row : row + 1]
        first = len(text) + ids.shape[1]
        with torch.inference_mode():
            output = receiver(
                answer[:, :1],
                past_key_values=prefilled.cache,
                position_ids=torch.tensor([[first]]),
            )
        logits = torch.stack([prefilled.logits[0], output.logits[0, -1]])
        losses.append(F.cross_entropy(logits, answer[0]))
    assert found == pytest.approx(float(torch.stack(losses).mean()), abs=2e-5)


def test_a_guard_lends_the_next_rows_message_at_its_own_length() -> None:
    receiver, sharer, prefix = randomized()
    batch, _ = message_batch((9, 4, 6))
    assert batch.message_ids is not None
    lent = replace(batch, message_ids=batch.message_ids.roll(-1, 0), message_tokens=[4, 6, 9])
    with torch.no_grad():
        guard = guard_loss(readings_of(receiver, sharer, batch, 9, "front"), prefix, -99.0)
        losses = [
            answer_loss(readings_of(receiver, sharer, each, kept, "front"), prefix)
            for each, kept in ((lent, 9), (batch, 0))
        ]
    assert float(guard) == pytest.approx(float(losses[0] - losses[1]) + 99, abs=1e-4)


# Training


def gain(batch: Batch, parts: tuple[PreTrainedModel, PreTrainedModel, ProjectedPrefix]) -> float:
    """By how many of the rows the right one of two tokens is ahead oftener with the own message
    than with one that says the other."""
    receiver, sharer, prefix = parts
    assert batch.message_ids is not None
    other = batch.message_ids.clone()
    other[:, 0] = 31 - other[:, 0] - 10
    right = []
    for messages in (batch.message_ids, other):
        hits = 0
        for row, tokens in enumerate(batch.message_tokens):
            received = cache_of(sharer, messages[row : row + 1, :tokens])
            prompt = batch.prompt_ids[row : row + 1]
            where = torch.arange(tokens), tokens
            logits = prefix.prefill_behind(receiver, prompt, received, *where).logits[0]
            hits += int(logits[20:22].argmax()) == int(batch.answer_ids[row, 0]) - 20
        right.append(hits / len(batch.prompt_ids))
    return right[0] - right[1]


def test_what_the_sharer_alone_knows_is_learned() -> None:
    parts = toy_parts()
    receiver, sharer, prefix = parts
    losses: list[float] = []

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        losses.append(metrics["loss"])
        assert "open_gates" not in metrics

    settings = TrainingSettings(steps=80, learning_rate=1e-2)
    trained = train_fuser(receiver, sharer, prefix, toy_batch, settings, on_step=on_step)
    assert trained is prefix and not prefix.training
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert gain(toy_batch(10_000), parts) > 0.5


def test_a_run_that_goes_on_ends_with_the_same_weights(tmp_path: Path) -> None:
    def trained(folder: Path | None, stop: int = 0) -> dict[str, Tensor]:
        receiver, sharer, prefix = toy_parts()

        def on_step(step: int, metrics: Mapping[str, float]) -> None:
            if step == stop:
                raise KeyboardInterrupt

        train_fuser(receiver, sharer, prefix, toy_batch, SETTINGS, folder, on_step)
        return prefix.state_dict()

    whole = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop=8)
    assert max(tmp_path.iterdir()).name == "step_00000006"
    resumed = trained(tmp_path)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_share_of_a_batch_has_its_own_messages() -> None:
    batch = toy_batch(0)
    parts = [Processes(rank, 3).share(batch, 1, "front").batch for rank in range(3)]
    assert torch.equal(torch.cat([p.message_ids for p in parts]), batch.message_ids)
    assert [tokens for p in parts for tokens in p.message_tokens] == batch.message_tokens


def test_batches_hold_the_messages_of_their_rows() -> None:
    pairs = [([n + 3] * (4 + n % 2), [n + 3, 2]) for n in range(24)]
    messages = [[n + 3] * (1 + 7 * n) for n in range(24)]
    batches = TokenBatches(pairs, 0, 4, messages=messages)
    seen, widths = [], []
    for number in range(6):
        rows, batch = batches.rows(number), batches(number)
        assert batch.message_ids is not None
        assert batch.message_ids[:, 0].tolist() == batch.prompt_ids[:, -1].tolist()
        assert list(batch.message_tokens) == [1 + 7 * row for row in rows]
        assert batches.tokens(number) == sum(
            len(messages[row]) + sum(map(len, pairs[row])) for row in rows
        )
        widths.append(max(batch.message_tokens) - min(batch.message_tokens))
        seen += rows
    assert sorted(seen) == list(range(24))
    assert max(widths) < 100  # of 162: those of a batch are of about one length


# Its files


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, ProjectedPrefix]:
    *_, prefix = randomized()
    save_fuser(prefix, tmp_path / "final")
    return tmp_path / "final", prefix


def test_what_was_saved_comes_back(saved: tuple[Path, ProjectedPrefix]) -> None:
    folder, prefix = saved
    loaded = load(ProjectedPrefix, folder, prefix.sharer, prefix.receiver)
    assert loaded.layer_map == prefix.layer_map and not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[name], x) for name, x in prefix.state_dict().items())
    short = load(ProjectedPrefix, folder, prefix.sharer, prefix.receiver, torch.bfloat16)
    assert {p.dtype for p in short.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in short.buffers()} == {torch.float32}
    assert loaded.describe() == f"a projector of {10224:,} parameters for 3 layers"


def test_one_that_does_not_fit_is_refused(saved: tuple[Path, ProjectedPrefix]) -> None:
    folder, prefix = saved

    def refused(words: str, kind: type = ProjectedPrefix) -> None:
        with pytest.raises(C2CError, match=words) as error:
            load(kind, folder, prefix.sharer, prefix.receiver)
        assert "\n" not in str(error.value)

    with pytest.raises(C2CError, match="class 'PrefixProjector' is not supported, only C2CProj"):
        load_fuser(folder, prefix.sharer, prefix.receiver)
    with pytest.raises(C2CError, match="expects a sharer cache of 2 heads x 8, the sharer has 2"):
        load(ProjectedPrefix, folder, prefix.receiver, prefix.receiver)
    path = folder / "projector_1.pt"
    state = torch.load(path, weights_only=True)
    for name, tensor, words in (
        ("sharer_frequencies", torch.zeros(5), r"sharer_frequencies should be \(4,\)"),
        ("read_mean", torch.full((32,), torch.nan), "read_mean holds numbers that are not finite"),
        ("more", torch.zeros(2), "more should be nothing"),
    ):
        torch.save({**state, name: tensor}, path)
        refused(words)
    torch.save(state, path)
    layers = json.loads((folder / MAP_FILE).read_text())
    del layers["0"]["1"]["1"]
    (folder / MAP_FILE).write_text(json.dumps(layers))
    refused("receiver layer 1 is not in the layer map, and a prefix needs K and V of each")
