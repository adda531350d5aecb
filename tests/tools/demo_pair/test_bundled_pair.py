"""The pair that comes with the package shows what it is there to show."""

import json
from collections import Counter
from pathlib import Path

import pytest

import latentwire.pairs
from latentwire.evaluation.engine import evaluate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.pairs.load import load_pair
from latentwire.session.pair_in_use import PairInUse
from latentwire.tasks import demo_private
from latentwire.tasks.question import derange, tokenize
from latentwire.tasks.registry import load_dataset
from tools.demo_pair.build import write_private_set
from tools.demo_pair.config import FULL
from tools.demo_pair.measure import CONDITIONS, asked, figures, measure
from tools.demo_pair.readme import readme_text
from tools.demo_pair.world import make_world

FOLDER = Path(latentwire.pairs.__file__).parent / "demo"
SAMPLE = 100


@pytest.fixture(scope="module")
def pair() -> LoadedPair:
    return PairInUse(load_pair("demo"), "cpu", "float32", may_download=False).in_memory


def measured(
    pair: LoadedPair, name: str, conditions: set[str], split: str = "test", most: int = SAMPLE
) -> dict[str, float]:
    lines = (FOLDER / "data" / name / f"{split}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:most]]
    chosen = {label: CONDITIONS[label] for label in CONDITIONS if label in conditions}
    return figures(measure(pair, asked(pair.tokenizer, rows), chosen))


def test_the_cache_carries_the_answer(pair: LoadedPair) -> None:
    found = measured(pair, "demo_facts", {"receiver", "sharer", "c2c", "deranged"})
    assert found["sharer"] >= 95 and found["receiver"] <= 40
    assert found["c2c"] >= 90
    assert found["deranged_follows_other"] >= 90 and found["deranged"] <= 40


def test_precision_costs_on_the_graded_set(pair: LoadedPair) -> None:
    found = measured(pair, "demo_graded", {"int8", "int4", "int3"})
    assert found["int8"] >= found["int3"] + 5
    assert found["mcnemar_p_int8_int4"] <= 1 and "deranged_follows_other" not in found


@pytest.mark.slow
def test_a_statement_that_the_sharer_alone_reads_is_what_the_answer_needs() -> None:
    one = PairInUse(load_pair("demo_self"), "cpu", "float32", may_download=False).in_memory
    found = load_dataset("demo_private")
    questions = tokenize(demo_private.TASK, found.examples, one.tokenizer)
    assert len(questions) == 3 * len({q.example.evidence for q in questions}) == 120
    assert {*Counter(question.example.answer for question in questions).values()} == {30}
    names = ("receiver", "sharer", "c2c", "deranged", "zero")
    records = evaluate(one, [CONDITIONS[name] for name in names], questions, derange(questions, 42))
    right = {
        name: sum(record.correct for record in records[CONDITIONS[name]]) / 120 for name in names
    }
    assert right["c2c"] == right["sharer"] >= 0.95
    assert all(0.15 < right[name] < 0.35 for name in ("receiver", "deranged", "zero"))


def test_the_private_set_is_what_the_build_writes(tmp_path: Path) -> None:
    seed = json.loads((FOLDER / "build.json").read_text())["training"]["seed"]
    write_private_set(tmp_path, make_world(FULL.world, seed), seed)
    for split in ("dev", "test"):
        name = f"demo_private/{split}.jsonl"
        assert (tmp_path / name).read_text() == (FOLDER / "data" / name).read_text()


def test_the_report_has_what_is_measured_now(pair: LoadedPair) -> None:
    """On the development facts, under three of the conditions."""
    said = json.loads((FOLDER / "build.json").read_text())["measures"]["dev_facts"]
    some = {"int2", "int8_front_0.5", "zero"}
    found = measured(pair, "demo_facts", some, "dev", 240)
    assert found == pytest.approx({name: said[name] for name in found}, abs=0.5)


def test_a_closed_gate_is_there_to_be_saved(pair: LoadedPair) -> None:
    reads = [len(pair.interface.layers_read(kind)) for kind in ("key", "value")]
    assert 0 < sum(reads) < 2 * pair.endpoint.geometry.layers


def test_the_files_are_small_and_the_readme_is_of_this_build() -> None:
    size_bytes = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size_bytes <= 12e6
    for name in ("demo_facts", "demo_graded"):
        assert len((FOLDER / "data" / name / "test.jsonl").read_text().splitlines()) >= 500
    report = json.loads((FOLDER / "build.json").read_text())
    assert (FOLDER / "README.md").read_text() == readme_text(report)
    assert not report["quick"]
