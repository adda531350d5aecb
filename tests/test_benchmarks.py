"""The benchmarks run, on tiny shapes; what they count is right where it can be counted by hand."""

import argparse
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from launched import surroundings, the_launcher
from torch.utils.flop_counter import FlopCounterMode

from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.channel.positions import Positions
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.arc_c import TASK
from latentwire.tracking.results_reader import results
from latentwire.tracking.runs import CODE_SHA, MILESTONE, SOURCE, RunWriter
from latentwire.tracking.store import open_store

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *options: str) -> str:
    process = the_launcher().start_script(BENCHMARKS / script, options, Path.cwd(), surroundings())
    out, err = process.communicate(timeout=1200)
    assert process.wait() == 0, err
    return out


@pytest.mark.slow
def test_the_grid(tmp_path: Path) -> None:
    output = tmp_path / "grid.json"
    text = run(
        "grid.py", "--small", "--limit", "2", "--profile", "--pipeline-sample", "1",
        "--deranged", "--output", str(output),
    )  # fmt: skip
    said = json.loads(output.read_text())
    assert said["conditions"] == 24 and said["answers"] == 24 * 4
    assert "times_faster_than_pipeline" in text
    # The first two questions of each set: prompts of 142, 157 tokens and so on.
    table = pd.read_csv(ROOT / "results" / "published_lengths.csv.gz")
    prompts = table.groupby("dataset").head(2)["prompt_tokens"]
    assert said["phases"]["receiver prefill"]["tokens"] == sum(prompts - 1)
    kept = {"1": 3, "0.75": 2, "0.5": 2, "0.25": 2, "0.1": 2}
    expected = sum(
        times * int((n - 1) * float(ratio)) for n in prompts for ratio, times in kept.items()
    )
    assert said["phases"]["fusion"]["tokens"] == 2 * expected  # matched and deranged


def test_packets(tmp_path: Path) -> None:
    output, codecs = tmp_path / "packet.json", ("int8", "kivi2", "turbo2")
    run(
        *("packet.py", "--device", "cpu", "--tokens", "3", "--batch", "2", "--budget", "0"),
        *("--codecs", *codecs, "--output", str(output)),
    )
    said = json.loads(output.read_text())
    assert [row["codec"] for row in said["rows"]] == [*codecs] and said["different"] == []
    by_hand = 24 * 2 * (2 * 4 + 2 * 3 * 64) + 30 + 4  # scales and codes; header and checksum
    assert said["rows"][0]["ratio"] == pytest.approx(2 * 24 * 2 * 2 * 3 * 64 / by_hand)
    # A prompt is not worked on layer by layer.
    assert all(
        0 < row[f"{way}_launches"] < 96 for row in said["rows"] for way in ("encode", "decode")
    )


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    output = tmp_path / "scaling.csv"
    run("grid.py", "--small", "--scaling", "--device", "cpu", "--output", str(output))
    table = pd.read_csv(output)
    assert set(table["sweep"]) == {"conditions", "examples", "prompt_tokens", "fuser_hidden"}
    assert table[["seconds", "seconds_each", "exponent"]].notna().all().all()


@pytest.mark.slow
def test_marginal_cost(tmp_path: Path) -> None:
    output, names = tmp_path / "marginal.json", ["int8 0.25 snapkv", "int8 0.25 vnorm_by_layer"]
    run(
        *("marginal_cost.py", "--small", "--questions", "2", "--device", "cpu", "--rounds", "3"),
        *("--only", *names, "--output", str(output)),
    )
    said = json.loads(output.read_text())
    assert said["rounds"] == 3 and list(said["more"]) == names
    for entry in said["more"].values():
        low, high = entry["times_own_interval"]
        assert entry["own_seconds"] > 0 and entry["resolution_seconds"] > 0
        assert (entry["times_own"] is None) == (low <= 0 <= high)
    scattered, by_layer = said["more"].values()
    assert scattered["sections"] > by_layer["sections"] == 1


def test_a_ratio_is_given_only_where_it_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from marginal_cost import judged

    # Three differences around 1: t of 2 degrees is 4.303, the standard error s / sqrt(3).
    entry = judged([0.9, 1.0, 1.1], 2e9, 1e9)
    assert entry["own_seconds"] == 2 and entry["times_own"] == pytest.approx(0.5)
    assert entry["resolution_seconds"] == pytest.approx(0.1 / 3**0.5)
    half = 4.3027 * 0.1 / 3**0.5 / 2
    assert entry["times_own_interval"] == pytest.approx([0.5 - half, 0.5 + half], rel=1e-4)
    assert entry["within_goal"] is True
    noisy = judged([-1.0, 1.0, 3.0], 1e9, 1e9)
    assert noisy["times_own"] is None and noisy["within_goal"] is None
    assert judged([2.0, 2.01, 1.99], 1e9, 1e9)["within_goal"] is False


def test_operations_of_any_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from flops import FuserFlops, ModelFlops, chosen_tokens, count, score_flops
    from published_lengths import random_questions
    from random_pair import loaded_random_pair

    pair = loaded_random_pair(torch.float32, "cpu", small=True)
    fuser, shape = FuserFlops(pair), pair.interface.sharer
    sources = fuser.sources
    assert len(sources) == 2 and sorted(sources.values()) == [0, 1]
    # What the fuser really multiplies, the receiver's part in it.
    own = torch.randn(1, 1, 5, 128)
    sent = torch.randn(1, shape.kv_heads, 5, shape.head_dim)
    with FlopCounterMode(display=False) as counter:
        pair.interface.merge_layer(0, sent, sent, own, own)
    each = fuser.own[0] + fuser.rest[0]
    assert counter.get_total_flops() == 5 * each
    # The same in both layers: 1, 2, and 5, which is read on top of what was merged.
    scattered = Positions.of([1, 2, 5])
    assert fuser.merging(scattered) == 2 * (3 * fuser.rest[0] + fuser.own[0])
    # Two tokens of one layer, in a section of seven.
    by_layer = Positions.of_layers([[1, 5], []], range(7))
    assert fuser.merging(by_layer) == 2 * fuser.rest[0]
    assert fuser.merged_tokens(scattered) == 3 and fuser.merged_tokens(by_layer) == 1
    # The last 32 tokens' queries with all keys; squares of all values.
    products = 2 * 32 * 40 * 2 * shape.head_dim * shape.layers
    assert score_flops("snapkv", shape, 2, 40) == products
    assert score_flops("vnorm", shape, 2, 40) == 2 * 40 * shape.width * shape.layers
    assert score_flops("front", shape, 2, 40) == 0

    questions = random_questions("arc_c", [8, 40], len(pair.tokenizer))
    front, snapkv, oracle = (
        Condition("c2c", Channel("int8", 0.5, order), "matched")
        for order in ("front", "snapkv", "oracle_proj_vnorm")
    )
    conditions = [front, snapkv, oracle]
    chosen = chosen_tokens(pair, conditions, questions, questions)
    assert chosen[front] == [Positions.of(range(3)), Positions.of(range(19))]
    assert [each.count for each in chosen[snapkv]] == [3, 19]
    told = questions, questions, {key: [1, 1] for key in conditions}
    chosen[front] = [scattered, by_layer]
    work = count(pair, [front], *told, chosen)
    receiver = ModelFlops(pair.receiver)
    assert work["tails"].flops == receiver.span(3, 7) + receiver.span(7, 39)
    assert work["scores"].flops == 0 and work["fusion"].tokens == 4
    whole = count(pair, conditions, *told, chosen)
    ranked = sum(score_flops("snapkv", shape, 2, n) for n in (7, 39))
    assert whole["scores"].flops == ranked + 2 * each * (7 + 39)


@pytest.mark.slow
def test_workers(tmp_path: Path) -> None:
    output = tmp_path / "workers.json"
    run(
        "workers.py", "--small", "--device", "cpu", "--limit", "4", "--chunk-size", "2",
        "--output", str(output),
    )  # fmt: skip
    said = json.loads(output.read_text())
    assert said["tasks"] == 4 and said["answers"] == 8 * 13
    assert said["ratio"] == said["seconds_with_1"] / said["seconds_with_2"]


@pytest.mark.slow
def test_engine_and_definition_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "equal.json"
    run(
        *("engine_vs_reference.py", "--device", "cpu", "--dtype", "float64", "--limit", "2"),
        *("--workers", "0", "--output", str(output)),
    )
    said = json.loads(output.read_text())
    assert said["answers"] == 2 * 2 * 13
    assert said["answers_that_differ"] == 0 and said["largest_logit_difference"] < 1e-9
    # A step of a quantizer is seen, the noise of a sum is not.
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from engine_vs_reference import stepped

    exact = torch.linspace(-3, 3, 101)
    assert not stepped(exact * (1 + 3e-6) + 1e-6, exact).any()
    assert stepped(exact + 3 / 127, exact).all()


def test_a_synthetic_chunk_run_is_what_the_writer_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import store_read

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = open_store("synthetic")
    shape = store_read.Shape(runs=4, conditions=2, records=3)
    prints = store_read.fill(store, uri, None, shape)
    chunks = list(store.search("tags.`latentwire.level` = 'chunk'"))
    assert len(chunks) == 4 and {run.data.tags["latentwire.condition"] for run in chunks} == {
        *prints
    }
    assert sum(len(result.records) for result in results(store, chunks)) == 12
    made = next(run for run in chunks if run.data.tags["latentwire.chunk"] == "00000-00003")
    plan = next(
        store_read.make_plan(condition, shape)
        for condition in store_read.conditions(2)
        if store_read.make_plan(condition, shape).fingerprint
        == made.data.tags["latentwire.condition"]
    )
    writer = RunWriter(store, {MILESTONE: "m2", CODE_SHA: "0" * 40, SOURCE: "local"})
    records = list(store_read.make_records(plan, (0, 3)))
    keys = ("fingerprint", "condition", "chunk", "identity")
    writer.write_chunk(
        f"{plan.setting.dataset} {plan.condition.label} 00000-00003",
        made.data.tags["mlflow.parentRunId"],
        plan.params,
        {f"latentwire.{key}": made.data.tags[f"latentwire.{key}"] for key in keys},
        records,
        {**chunk_metrics(records, TASK), "seconds": store_read.SECONDS},
    )
    (real,) = [
        run
        for run in store.search("tags.`latentwire.level` = 'chunk'")
        if run.info.run_id not in {chunk.info.run_id for chunk in chunks}
    ]
    tags = {k: v for k, v in made.data.tags.items() if not k.startswith("more.")}
    assert len(made.data.tags) - len(tags) == store_read.MORE_TAGS
    assert tags == real.data.tags
    assert made.data.params == real.data.params and made.data.metrics == real.data.metrics
    assert made.info.run_name == real.info.run_name and made.info.status == real.info.status
    place = (real.info.artifact_uri, made.info.artifact_uri)
    assert place[0].replace(real.info.run_id, made.info.run_id) == place[1]
    files = [(Path(folder) / "records.jsonl").read_bytes() for folder in place]
    assert files[0] == files[1]


@pytest.mark.slow
def test_tracking() -> None:
    text = run("store_read.py", "--runs", "40", "--conditions", "4", "--records", "2")
    for part in ("resume check", "m4 load_curve", "of it: search", "of it: records"):
        assert part in text


@pytest.mark.slow
def test_a_training_step(tmp_path: Path) -> None:
    output = tmp_path / "training.json"
    run(
        "training_speed.py", "--small", "--batch-size", "2", "--prompt-tokens", "11",
        "--hidden-dim", "8", "--steps", "1", "--turns", "1", "--profile", "--output", str(output),
    )  # fmt: skip
    said = json.loads(output.read_text())
    # K and V of two layers: in, six maps in blocks, weights of 2 heads, and out.
    weights = 2 * 2 * ((256 + 128) * 8 + 6 * 8 * 8 + 8 * 2 + 8 * 128)
    assert said["fuser_flop"] == 3 * 2 * 10 * 2 * weights
    assert said["ratio"] > 0 and said["utilization"] > 0


def test_speeds_of_several_processes_are_in_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import training_ranks

    seconds = {"1 each": [2.0, 1.0, 3.0], "2 each": [2.0], "2 shared": [1.25]}
    options = argparse.Namespace(device="cpu", processes=[1, 2], batch_size=8)
    told = training_ranks.result(seconds, options)["processes"]
    assert told["1 each"] == {"batch": 8, "step_s": 2, "prompts_per_s": 4, "ratio": 1}
    assert told["2 each"] == {"batch": 16, "step_s": 2, "prompts_per_s": 8, "ratio": 2}
    assert told["2 shared"] == {"batch": 8, "step_s": 1.25, "prompts_per_s": 6.4, "ratio": 1.6}


def test_wordings_of_questions_on_a_passage(tmp_path: Path) -> None:
    passages = ["The sky over Paris is blue.", "Grass in Rome is green."]
    rows = {
        "xquad": [
            {"id": str(n), "context": p, "question": "Where?", "answers": {"text": ["Paris"]}}
            for n, p in enumerate(passages)
        ],
        "boolq": [{"passage": p, "question": "is it", "answer": True} for p in passages],
    }
    for name, kept in rows.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / "validation.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    output = tmp_path / "f1.json"
    model = ROOT / "latentwire" / "pairs" / "demo" / "receiver"
    run("passage_wordings.py", str(model), str(tmp_path), "--output", str(output))
    found = json.loads(output.read_text())["f1"]
    assert len(found) == 12 and {len(told) for told in found.values()} == {6}
    assert all(0 <= value <= 100 for told in found.values() for value in told.values())
