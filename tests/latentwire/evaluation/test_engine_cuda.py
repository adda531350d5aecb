"""The engine on a GPU: what the CPU gives, with and without CUDA graphs, in every dtype."""

import gc
from dataclasses import replace

import pytest
import torch
from calibrations import make_calibration
from random_questions import make_questions, stopping
from tiny import loaded_pair

from c2c import batched_decoding
from latentwire.evaluation import engine, memory, pipeline, room
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.record import Record
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

LENGTHS = [12, 2, 40, 23, 3, 12, 61, 23, 9, 30]
CONDITIONS = [
    Condition("receiver"),
    Condition("sharer"),
    *(
        Condition("c2c", Channel(codec, ratio, order), control)
        for codec in ("fp32", "int8", "int4_group")
        for ratio, order in ((1.0, "front"), (0.5, "front"), (0.25, "back"))
        for control in ("matched", "deranged")
    ),
    # Sections that are merged while the rest is read, of all layers and of some.
    *(
        Condition("c2c", Channel(codec, 0.5, order), "matched")
        for codec, order in (("fp32", "vnorm"), ("int8", "vnorm_by_layer"), ("int8", "random"))
    ),
]


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows leave as on the CPU, so that these few questions reach that code too."""
    monkeypatch.setattr(batched_decoding, "FEWEST_ROWS", {"cuda": 1})


def asked() -> tuple[list[Question], list[Question]]:
    questions = make_questions(LENGTHS, seed=3)
    return questions, questions[1:] + questions[:1]


def answers(
    pair: LoadedPair, batch_size: int | None, use_graphs: bool
) -> dict[Condition, list[Record]]:
    return engine.evaluate(pair, CONDITIONS, *asked(), batch_size, work=Workspace(pair, use_graphs))


@pytest.mark.parametrize("use_graphs", [False, True])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_definition_on_the_cpu(
    few_rows: None, batch_size: int | None, use_graphs: bool
) -> None:
    """In float64: rounding decides nothing, so the records are equal whatever computes them."""
    cpu = stopping(loaded_pair(torch.float64))
    gpu = stopping(loaded_pair(torch.float64, "cuda"))
    questions, donors = asked()
    records = answers(gpu, batch_size, use_graphs)
    for condition in CONDITIONS:
        for row, (question, donor) in enumerate(zip(questions, donors, strict=True)):
            expected = pipeline.evaluate(cpu, condition, question, donor)
            assert records[condition][row] == expected, condition.label


@pytest.mark.parametrize("codec", ["kvtc1", "klt2"])
def test_transform_coding_of_the_definition_on_the_cpu(few_rows: None, codec: str) -> None:
    """Lengths are of the device's own codes; a kvtc refuses tokens that differ by layer."""
    cpu, gpu = (stopping(loaded_pair(torch.float64, device)) for device in ("cpu", "cuda"))
    endpoint = cpu.endpoint
    known = make_calibration(endpoint.geometry, endpoint.key_layers, endpoint.value_layers)
    cpu, gpu = (
        replace(pair, endpoint=replace(pair.endpoint, calibration=known)) for pair in (cpu, gpu)
    )
    conditions = [
        Condition("c2c", Channel(codec, ratio, order, known.hash), "matched")
        for ratio, order in ((1.0, "front"), (0.4, "back"), (0.5, "vnorm"), (0.5, "vnorm_by_layer"))
    ]
    questions, donors = asked()
    records = engine.evaluate(gpu, conditions, questions, donors, 4, work=Workspace(gpu))
    for condition in conditions:
        for row, (question, donor) in enumerate(zip(questions, donors, strict=True)):
            expected = pipeline.evaluate(cpu, condition, question, donor)
            assert records[condition][row] == expected, condition.label


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_graphs_change_nothing(few_rows: None, dtype: torch.dtype) -> None:
    """The same kernels on the same numbers: equal records even where rounding decides."""
    pair = stopping(loaded_pair(dtype, "cuda"))
    assert answers(pair, 4, use_graphs=True) == answers(pair, 4, use_graphs=False)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_device_that_is_not_the_current_one(
    few_rows: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Kernels, graphs and events go where the tensors are, whatever device is the current one."""
    first, second = (stopping(loaded_pair(torch.bfloat16, f"cuda:{number}")) for number in (0, 1))
    assert torch.cuda.current_device() == 0
    assert answers(second, 4, use_graphs=True) == answers(first, 4, use_graphs=True)
    assert "without CUDA graphs" not in caplog.text


def test_graphs_are_really_used(
    few_rows: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = []
    run = batched_decoding.StepGraphs.run

    def counting(self: batched_decoding.StepGraphs, key: object, *rest: object) -> torch.Tensor:
        replayed.append(key)
        return run(self, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batched_decoding.StepGraphs, "run", counting)
    pair = stopping(loaded_pair(torch.float32, "cuda"))
    for model in (pair.receiver, pair.sharer):
        model.generation_config.eos_token_id = None
    records = answers(pair, 5, use_graphs=True)
    assert all(r.generated_tokens == 64 for kept in records.values() for r in kept)
    assert len(replayed) > 100 and len(set(replayed)) < 20
    assert "without CUDA graphs" not in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_first_logits_of_the_definition(dtype: torch.dtype) -> None:
    pair = stopping(loaded_pair(dtype, "cuda"))
    questions, donors = asked()
    condition = Condition("c2c", Channel("bf16", 0.5, "front"), "matched")
    logits: dict[int, torch.Tensor] = {}
    engine.evaluate(
        pair,
        [condition],
        questions,
        donors,
        4,
        on_first_logits=lambda c, row, line: logits.__setitem__(row, line.float().clone()),
    )
    assert condition.channel is not None
    for row, (question, donor) in enumerate(zip(questions, donors, strict=True)):
        packet = pipeline.send(pair, condition.channel, question, donor, condition.control)
        prefilled = pipeline.prefill(pair, question, packet)
        theirs = prefilled.logits[0].float()
        distance = float((logits[row] - theirs).norm() / theirs.norm())
        assert distance < {torch.float32: 1e-3}.get(dtype, 0.06), row


def test_the_batch_fits_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = stopping(loaded_pair(torch.float32, "cuda"))
    gc.collect()  # what earlier tests have left is not to become free while room is looked for
    torch.cuda.empty_cache()  # what torch keeps counts as free
    example = room.example_bytes(pair, CONDITIONS, 128)
    passing = room._activation_bytes(pair, 128, 100)
    free = int((3.5 * example + passing) / memory.USABLE)
    held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - held, free))
    found = room.room_for(pair, CONDITIONS, 128, 100)
    assert found.examples(pair, CONDITIONS, 128) == 3
    assert found.examples(pair, CONDITIONS, 32) > 6, "shorter rows take less"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (-held, free))
    assert room.room_for(pair, CONDITIONS, 128, 100).examples(pair, CONDITIONS, 128) == 1
