"""Decoding ragged rows together gives what `receiver.greedy` gives for each alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny import ARCHITECTURES, VOCABULARY, token_ids
from torch import Tensor
from transformers import PreTrainedModel

from c2c import batched_decoding
from c2c.batched_decoding import Decoder, rounded
from c2c.pieces import AtOnce
from c2c.receiver import greedy, prefill
from c2c.sections import split
from c2c.slot_cache import read, slot_attention
from c2c.steps import finished

LENGTHS = [9, 2, 25, 1, 14, 9, 31, 5]
STOPS = frozenset(range(2, VOCABULARY, 8))


def alone(
    model: PreTrainedModel, ids: Tensor, new_tokens: int, stops: frozenset[int]
) -> list[list[int]]:
    answers = []
    for row, length in zip(ids, LENGTHS, strict=True):
        sections = split(length, 0.0, "front")
        prefilled = prefill(model, row[None, :length], sections, lambda section, own: own)
        answers += greedy(model, prefilled, new_tokens, stops)
    return answers


def together(
    decoder: Decoder,
    ids: Tensor,
    new_tokens: int,
    stops: frozenset[int] = frozenset(),
    **options: object,
) -> list[list[int]]:
    last = torch.tensor([row[length - 1] for row, length in zip(ids, LENGTHS, strict=True)])
    read(
        decoder.model,
        ids,
        [ids.shape[1] - 1] * len(ids),
        decoder.slots.rows(0, len(ids)),
        AtOnce(10_000, 0),
    )
    places = [n - 1 for n in LENGTHS]
    return finished(decoder.greedy(last, places, new_tokens, stops, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_row_answers_as_if_alone(name: str, models: dict[str, PreTrainedModel]) -> None:
    model = models[name]
    decoder = Decoder(model, len(LENGTHS) + 3, max(LENGTHS) + 40, use_graphs=False)
    lengths = set()
    with slot_attention(model):
        ours = [
            together(decoder, token_ids(len(LENGTHS), 31, seed), 40, STOPS) for seed in range(3)
        ]
    for seed, answers in enumerate(ours):  # the decoder is used again, whatever it held before
        assert answers == alone(model, token_ids(len(LENGTHS), 31, seed), 40, STOPS)
        lengths |= set(map(len, answers))
    assert len(lengths) > 5


def test_rows_that_have_ended_leave(
    models: dict[str, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = models["llama"], token_ids(len(LENGTHS), 31, seed=2)
    steps: list[tuple[int, int]] = []
    step = batched_decoding.next_logits

    def counting(model: PreTrainedModel, *rest: object) -> Tensor:
        steps.append((len(rest[0]), rest[3]))  # type: ignore[arg-type]
        return step(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batched_decoding, "next_logits", counting)
    decoder = Decoder(model, len(LENGTHS), 31 + 40, use_graphs=False)
    forced_lengths = [0, 3, 40, 1, 3, 12, 2, 40]
    with slot_attention(model):
        answers = together(decoder, ids, 40, STOPS, forced_lengths=forced_lengths)
    assert [len(answer) for answer in answers] == forced_lengths
    rows = [count for count, _ in steps]
    # 3 of 8 go on once 3 tokens are seen to be the last of two rows; 2 of them are no half.
    assert rows == [8] * 4 + [3] * 36
    # While all rows are short only the slots in use are looked at.
    assert [visible for _, visible in steps] == [
        rounded(31 + step) if step < 3 else rounded(25 + step) for step in range(40)
    ]


def test_all_ended_is_the_end(models: dict[str, PreTrainedModel]) -> None:
    model, ids = models["llama"], token_ids(len(LENGTHS), 31)
    seen: list[Tensor] = []
    decoder = Decoder(model, len(LENGTHS), 80, use_graphs=False)
    with slot_attention(model):
        answers = together(
            decoder, ids, 40, frozenset(range(VOCABULARY)), on_first_logits=seen.append
        )
    assert answers == [[]] * len(LENGTHS)
    assert [tuple(logits.shape) for logits in seen] == [(len(LENGTHS), VOCABULARY)]


def test_what_a_decoder_holds(models: dict[str, PreTrainedModel]) -> None:
    decoder = Decoder(models["llama"], 4, 33, use_graphs=False)
    assert decoder.slots.tokens == rounded(33) == 64
    assert decoder.holds(4, 64) and decoder.holds(1, 1)
    assert decoder.holds(2, 128) and not decoder.holds(5, 1) and not decoder.holds(2, 129)


@pytest.mark.parametrize("name", ["llama"])
def test_its_memory_divided_anew(models: dict[str, PreTrainedModel], name: str) -> None:
    """More rows that are shorter, then fewer that are longer, answer as in memory of their own."""
    model = models[name]
    decoder = Decoder(model, 4, 64, use_graphs=False, most_rows=12)
    for rows, slots in ((4, 64), (8, 32), (2, 128)):
        assert decoder.holds(rows, slots)
        decoder.divide(slots)
        assert decoder.slots.tokens == slots and len(decoder.slots.keys[0]) == rows
        ids = token_ids(rows, 9, seed=rows)
        answers = []
        for each in (decoder, Decoder(model, rows, slots, use_graphs=False)):
            with slot_attention(model):
                read(model, ids, [8] * rows, each.slots.rows(0, rows), AtOnce(10_000, 0))
                answers.append(finished(each.greedy(ids[:, -1], [8] * rows, 20)))
        assert answers[0] == answers[1]


class LateFlags:
    """What the host knows on a GPU: the flags of the step before."""

    def __init__(self, device: torch.device) -> None:
        self.pending: np.ndarray | None = None

    def after(self, ended: Tensor) -> np.ndarray | None:
        before, self.pending = self.pending, ended.numpy().copy()
        return before

    def forget(self) -> None:
        self.pending = None


class CopyingGraphs:
    """Steps run as they are, but as with graphs: into one buffer, each shape seen before."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int, bool]] = []

    def run(self, key: tuple[int, int, bool], step: Callable[[], Tensor], out: Tensor) -> Tensor:
        self.shapes.append(key)
        return out.copy_(step())


@pytest.mark.parametrize("fewest", [1, 4])
def test_as_on_a_gpu(
    fewest: int, models: dict[str, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags known a step late, results in one buffer, and never fewer rows than are worth it."""
    monkeypatch.setattr(batched_decoding, "_Flags", LateFlags)
    monkeypatch.setattr(batched_decoding, "FEWEST_ROWS", {"cpu": fewest})
    model, run = models["qwen3"], []
    step = batched_decoding.next_logits
    monkeypatch.setattr(batched_decoding, "next_logits", lambda *a: run.append(a[3]) or step(*a))
    decoder = Decoder(model, len(LENGTHS), max(LENGTHS) + 40, use_graphs=False)
    decoder._graphs = graphs = CopyingGraphs()  # type: ignore[assignment]
    for seed in range(3):
        ids = token_ids(len(LENGTHS), 31, seed)
        with slot_attention(model):
            answers = together(decoder, ids, 40, STOPS)
        assert answers == alone(model, ids, 40, STOPS)
    rows = {count for count, *_ in graphs.shapes}
    assert max(rows) == len(LENGTHS) and min(rows) >= fewest and len(rows) > 1
    assert len(run) == len(graphs.shapes) + 1  # only the first step of all is run as it is


def test_a_graph_that_cannot_be_recorded_is_done_without(
    models: dict[str, PreTrainedModel], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def run(self, *_: object) -> Tensor:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    model, ids = models["qwen3"], token_ids(len(LENGTHS), 31)
    decoder = Decoder(model, len(LENGTHS), max(LENGTHS) + 40, use_graphs=False)
    decoder._graphs = Broken()  # type: ignore[assignment]
    with slot_attention(model):
        answers = together(decoder, ids, 40, STOPS)
    assert answers == alone(model, ids, 40, STOPS)
    assert "without CUDA graphs: operation not permitted when stream is capturing" in caplog.text
