"""The pair that comes with the package shows what it is there to show."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import latentwire.pairs
from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.load_model import load_model
from tools.demo_pair.measure import (
    Condition,
    LivePair,
    Questions,
    alone,
    fused,
    per_cent,
    read_questions,
)
from tools.demo_pair.readme import readme_text

FOLDER = Path(latentwire.pairs.__file__).parent / "demo"
SAMPLE = 100


@pytest.fixture(scope="module")
def pair() -> LivePair:
    receiver, sharer = (
        load_model(FOLDER / name, torch.float32, "cpu") for name in ("receiver", "sharer")
    )
    fuser = load_fuser(
        FOLDER / "fuser" / "final", geometry(sharer.config), geometry(receiver.config)
    )
    return LivePair(AutoTokenizer.from_pretrained(FOLDER / "receiver"), receiver, sharer, fuser)


def questions(pair: LivePair, name: str) -> Questions:
    lines = (FOLDER / "data" / name / "test.jsonl").read_text().splitlines()
    assert len(lines) >= 500
    rows = [json.loads(line) for line in lines[:SAMPLE]]
    return read_questions(pair.tokenizer, rows, torch.device("cpu"))


def test_the_cache_carries_the_answer(pair: LivePair) -> None:
    asked = questions(pair, "demo_facts")
    assert per_cent(alone(pair.tokenizer, pair.sharer, asked), asked.keys) >= 95
    assert per_cent(alone(pair.tokenizer, pair.receiver, asked), asked.keys) <= 40
    assert per_cent(fused(pair, asked, Condition()), asked.keys) >= 90
    deranged = fused(pair, asked, Condition(control="deranged"))
    assert per_cent(deranged, asked.other_keys) >= 90
    assert per_cent(deranged, asked.keys) <= 40


def test_precision_costs_on_the_graded_set(pair: LivePair) -> None:
    asked = questions(pair, "demo_graded")
    by_bits = [per_cent(fused(pair, asked, Condition(bits=bits)), asked.keys) for bits in (8, 3)]
    assert by_bits[0] >= by_bits[1] + 5


def test_a_closed_gate_is_there_to_be_saved(pair: LivePair) -> None:
    reads = [len(pair.fuser.layers_read(kind)) for kind in ("key", "value")]
    assert 0 < sum(reads) < 2 * pair.fuser.receiver.layers


def test_the_files_are_small_and_the_readme_is_of_this_build() -> None:
    size_bytes = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size_bytes <= 12e6
    report = json.loads((FOLDER / "build.json").read_text())
    assert (FOLDER / "README.md").read_text() == readme_text(report)
    assert not report["quick"]
