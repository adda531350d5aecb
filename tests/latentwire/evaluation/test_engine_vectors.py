"""The engine against the published vectors: logits and tokens of every case it can express."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.conformance import ALLOWED_ODD_SHARE, CLOSE, ODD
from c2c.load_model import load_model
from latentwire.channel.endpoint import Endpoint
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.question import Question
from latentwire.tasks.task import Example, Prompts

# Of the 42 conditions, those that are no condition of LatentWire.
NOT_EXPRESSIBLE = {
    "sel_": "tokens chosen by score inside a section",
    "sched_": "a precision for each layer",
    "rd_greedy_": "a precision for each token",
    "multi_": "two sharers",
}


def expressed(condition: dict[str, Any]) -> Condition | None:
    """The same condition in LatentWire's words; None for one that it has no words for."""
    if not condition["sharers"]:
        return Condition("receiver")
    quant = condition["quant"]
    if condition["sharers"] != [1] or condition["select"] or (quant or {}).get("layer_schedule"):
        return None
    codec = "fp32"
    if quant is not None:
        codec = quant["scheme"] + ("_layer" if quant["axis"] == "layer" else "")
    channel = Channel(codec, condition["proportion"], condition["order"])
    return Condition("c2c", channel, "matched")


def vectors_pair(folder: Path) -> LoadedPair:
    receiver = load_model(folder / "receiver", torch.float32, "cpu")
    sharer = load_model(folder / "sharer", torch.float32, "cpu")
    for model in (receiver, sharer):
        model.generation_config.eos_token_id = None
    shapes = geometry(sharer.config), geometry(receiver.config)
    fuser = load_fuser(folder / "fuser" / "final", *shapes)
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: json.dumps(ids))
    return LoadedPair(receiver, sharer, fuser, tokenizer, Endpoint.of(fuser, b"12345678"))


def test_logits_and_tokens(shared_dir: Path) -> None:
    folder = shared_dir / "compat"
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    expected = load_file(folder / "expected.safetensors")
    task = replace(TASK, max_new_tokens=cases["new_tokens"])
    wanted = {c["name"]: expressed(c) for c in cases["conditions"]}
    left_out = {name for name, condition in wanted.items() if condition is None}
    assert left_out == {n for n in wanted if n.startswith(tuple(NOT_EXPRESSIBLE))}
    assert len(wanted) - len(left_out) == 17
    questions = [
        Question(
            task,
            Example(str(index), index, "", ("a", "b", "c", "d"), "A"),
            Prompts(tuple(prompt), tuple(prompt)),
        )
        for index, prompt in enumerate(cases["prompts"])
    ]
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
