"""The engine, and the definition, against the published vectors: logits and tokens of every case
that they can express (docs/decisions.md says what is in the way of the others)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from agreement import first_logits_of_pipeline
from safetensors.torch import load_file
from torch import Tensor

from c2c.cache import KVCache, geometry
from c2c.checkpoint import load_fuser
from c2c.conformance import ALLOWED_ODD_SHARE, CLOSE, ODD
from c2c.load_model import load_model
from c2c.oracle_selection import TopTokens, norms
from c2c.sections import split
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.positions import Positions
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.channel.selectors.selector import Budget, Selector
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.question import Question
from latentwire.tasks.task import Example, Prompts

# Of the 42 conditions, those that are no condition of LatentWire.
NOT_EXPRESSIBLE = {
    "sel_proj_": "tokens chosen for each of the receiver's layers, where a packet has the sharer's",
    "sel_delta_": "the same, and scales of tokens that are not sent",
    "rd_greedy_": "a precision for each token",
    "multi_": "two sharers",
}
SCORES: dict[str, Callable[[KVCache], Sequence[Tensor]]] = {
    "front": lambda cache: [-torch.arange(cache.tokens)] * cache.layers,
    "back": lambda cache: [torch.arange(cache.tokens)] * cache.layers,
    "vnorm_topk": lambda cache: [norms(value) for value in cache.values],
    "knorm_topk": lambda cache: [norms(key) for key in cache.keys],
}


class Published(Selector):
    """The selection study's rules that a sender can follow, in the section that they stand in."""

    help, by_layer = "the published ones", True

    def __init__(self, condition: dict[str, Any]) -> None:
        select, self.part = condition["select"], (condition["proportion"], condition["order"])
        self.rule = TopTokens(select["mode"], select["proportion"], select["min_tokens"])

    def select(self, sharer_cache: KVCache, prompt: Sequence[int], budget: Budget) -> Positions:
        parts = [part for part in split(len(prompt), *self.part) if part.sharer_mask > 0]
        if not parts:
            return Positions()
        (part,) = parts
        section = range(part.start, part.stop)
        count = self.rule.count(len(section))
        scores = SCORES[self.rule.mode](sharer_cache.section(part.start, part.stop))
        chosen = [[section[token] for token in x.topk(count).indices.tolist()] for x in scores]
        return Positions.of_layers(chosen, section)


def expressed(condition: dict[str, Any]) -> Condition | None:
    """The same condition in LatentWire's words; None for one that it has no words for."""
    if not condition["sharers"]:
        return Condition("receiver")
    quant, select = condition["quant"], condition["select"]
    if condition["sharers"] != [1] or (select and select["mode"] not in SCORES):
        return None
    channel = Channel(codec_of(quant), condition["proportion"], condition["order"])
    if select:
        channel = Channel(codec_of(quant), 0.5, condition["name"])
    return Condition("c2c", channel, "matched")


def codec_of(quant: dict[str, Any] | None) -> str:
    if quant is None:
        return "fp32"
    if schedule := quant.get("layer_schedule"):
        # The last two of the receiver's five layers read the last two of the sharer's four.
        ((override,), default) = schedule["overrides"], schedule["default"]
        assert override["layers"] == [3, 4]
        return f"{default}/last2:{override['scheme'].replace('fp16', 'fp32')}"
    return str(quant["scheme"]) + ("_layer" if quant["axis"] == "layer" else "")


def vectors_pair(folder: Path) -> LoadedPair:
    receiver = load_model(folder / "receiver", torch.float32, "cpu")
    sharer = load_model(folder / "sharer", torch.float32, "cpu")
    for model in (receiver, sharer):
        model.generation_config.eos_token_id = None
    shapes = geometry(sharer.config), geometry(receiver.config)
    fuser = load_fuser(folder / "fuser" / "final", *shapes)
    tokenizer = SimpleNamespace(
        decode=lambda ids, skip_special_tokens: json.dumps(ids),
        encode=lambda text, add_special_tokens: [ord(letter) for letter in text],
    )
    return LoadedPair(receiver, sharer, fuser, tokenizer, Endpoint.of(fuser, b"12345678"))


@pytest.fixture
def cases(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The cases of the folder, their rules among the selectors."""
    told: dict[str, Any] = json.loads((shared_dir / "compat" / "cases.json").read_text("utf-8"))
    for condition in told["conditions"]:
        if condition["select"] and condition["select"]["mode"] in SCORES:
            monkeypatch.setitem(SELECTORS, condition["name"], Published(condition))
    return told


def questions_of(cases: dict[str, Any]) -> list[Question]:
    task = replace(TASK, max_new_tokens=cases["new_tokens"])
    return [
        Question(
            task,
            Example(str(index), index, "", ("a", "b", "c", "d"), "A"),
            Prompts(tuple(prompt), tuple(prompt)),
        )
        for index, prompt in enumerate(cases["prompts"])
    ]


@pytest.mark.parametrize("prefix", ["sel_", "sched_"])
def test_the_definition_gives_them_too(
    shared_dir: Path, cases: dict[str, Any], prefix: str
) -> None:
    """One prompt at a time, and real packets: every fourth prompt."""
    folder, questions = shared_dir / "compat", questions_of(cases)
    expected, pair = load_file(folder / "expected.safetensors"), vectors_pair(folder)
    distances, quantized = [], []
    for case in cases["conditions"]:
        condition = expressed(case)
        if condition is None or not case["name"].startswith(prefix):
            continue
        for row in range(0, len(questions), 4):
            both = questions[row], questions[row]
            record, logits = first_logits_of_pipeline(pair, condition, *both)
            assert json.loads(record.output) == case["cases"][row]["generated"], case["name"]
            assert record.wire_bytes > 0
            distances.append(float((logits - expected[f"logits/{case['name']}"][row]).abs().max()))
            quantized.append(case["quant"] is not None)
    odd = [told for distance, told in zip(distances, quantized, strict=True) if distance > CLOSE]
    assert len(distances) == {"sel_": 11, "sched_": 2}[prefix] * 3
    assert all(odd) and len(odd) <= ALLOWED_ODD_SHARE * len(distances) and max(distances) <= ODD


def test_logits_and_tokens(shared_dir: Path, cases: dict[str, Any]) -> None:
    folder, questions = shared_dir / "compat", questions_of(cases)
    expected = load_file(folder / "expected.safetensors")
    wanted = {c["name"]: expressed(c) for c in cases["conditions"]}
    left_out = {name for name, condition in wanted.items() if condition is None}
    assert left_out == {n for n in wanted if n.startswith(tuple(NOT_EXPRESSIBLE))}
    assert len(wanted) - len(left_out) == 30
    conditions = list(dict.fromkeys(c for c in wanted.values() if c is not None))
    logits: dict[tuple[Condition, int], Tensor] = {}
    records = engine.evaluate(
        vectors_pair(folder),
        conditions,
        questions,
        questions,
        5,
        on_first_logits=lambda c, row, line: logits.__setitem__((c, row), line.clone()),
    )
    for case in cases["conditions"]:
        condition, name = wanted[case["name"]], case["name"]
        if condition is None:
            continue
        for record, answer in zip(records[condition], case["cases"], strict=True):
            assert json.loads(record.output) == answer["generated"], name
        ours = torch.stack([logits[condition, row] for row in range(len(questions))])
        distances = (ours - expected[f"logits/{name}"]).abs().amax(-1)
        assert float(distances.median()) <= CLOSE, name
        odd = distances[distances > CLOSE]
        # A value on the edge between two codes may fall to the other side.
        assert len(odd) <= (ALLOWED_ODD_SHARE * len(ours) if case["quant"] else 0), name
        assert float(distances.max()) <= ODD, name
