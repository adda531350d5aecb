"""The milestones end to end on the bundled pair, as processes of their own."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from blank_pictures import DRAWN
from forked_python import write_python
from launched import the_launcher
from tests_support import ROOT, Project

from latentwire.channel.describe import describe
from latentwire.channel.registry import EXAMPLES, NAMES

BAD_INPUT = 2
OWN = Path(sys.executable).parent  # where the programs of this environment are


def test_bad_input_is_one_sentence(project: Project) -> None:
    for entry, parameters, sentence in (
        ("m2", {"kv_bits": "abc"}, "kv_bits=abc: must be one of"),
        ("m3", {"keep_ratio": "1.5"}, "keep_ratio=1.5: must be"),
        ("m0", {"pair": "nobody"}, "unknown pair 'nobody'; known: demo"),
        ("m0", {"pair": "dmo_self"}, "(did you mean demo_self?)"),
        ("m4", {"pair": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ("train", {"pair": "demo", "data": "arc_c", "alignment": "first"}, "have one tokenizer"),
        ("m0", {"pair": "demo", "device": "cuda"}, "device=cuda: this machine has 0 CUDA"),
        ("m2", {"codec": "int4/last2"}, "'last2' is no exception of a schedule"),
        ("m2", {"codec": "kvtc1+zstd"}, "kvtc1 takes no lossless stage"),
        ("m2", {"pair": "demo", "codec": "turbo2"}, "codec turbo2 needs a calibration of pair"),
        (
            "m2",
            {"pair": "demo", "codec": "turbo2", "calibration": "nowhere"},
            "calibration=nowhere: must be a file that exists",
        ),
        ("m4", {}, "has no finished chunk runs"),
        ("published", {"reference_dir": "."}, "published_per_question.csv"),
    ):
        done = project.run(entry, **parameters)
        assert done.returncode == BAD_INPUT, done.stderr
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert project.runs("milestone", "RUNNING") == []
    assert project.runs("milestone") == []


@pytest.mark.slow
def test_main_runs_once_and_is_then_finished(project: Project) -> None:
    parameters = {"pair": "demo", "limit": 4, "chunk_size": 4, "sample": 1}
    parameters |= {"calibration_examples": 16, "m1_codec": "bf16,int8,int4,kvtc1"}
    parameters |= {"message_tokens": "8,64", "m3_keep_ratio": "1,0.5"}
    printed = project.ok("main", **parameters, output_dir="out")
    assert "pair demo (as asked) on cpu" in printed.splitlines()[0]
    first = project.numbers()
    milestones = {run.data.tags["latentwire.milestone"]: run for run in project.runs("milestone")}
    assert set(milestones) == {"main", "m0", "baselines", "calibrate", "m1", "m2", "m3", "m4"}
    # 5 conditions of M0; calibrated, then letter, logits and texts of 2 lengths and 3 codecs, and 2
    # codecs and 3 channels less int8 whole, each matched and deranged; in 2 sets of a chunk.
    assert len(first) == (5 + 1 + 2 * (2 + 2 * 3) + 2 * (2 + 3 - 1)) * 2
    for run in milestones.values():
        artifacts = {f.path for f in _client(project).list_artifacts(run.info.run_id)}
        assert {"config.json", "environment.json", "latentwire.log"} <= artifacts
    files = {f.path for f in _client(project).list_artifacts(milestones["m4"].info.run_id)}
    assert {"budget_curve.csv", "budget_curve_demo_facts.png", "codec_rate_demo_facts.png"} <= files
    assert {"budget_curve.tex", "bits_length_demo_graded.svg", "report.html"} <= files
    assert {"links.csv", "links_demo_facts.png", "links_demo_graded.svg"} <= files
    assert len(project.runs("link")) == 2  # what M1 measures beside the codecs, a question set each
    files = {f.path for f in _client(project).list_artifacts(milestones["m1"].info.run_id)}
    assert {"codecs.csv", "codec_error_demo_facts.png", "rate_distortion_demo_graded.png"} <= files
    assert len(project.runs("codec")) == 4 * 2
    project.ok("m1", pair="demo", dataset="demo_facts", sample=1)  # the others, on one set
    codecs = project.runs("codec")
    assert {run.data.params["codec"] for run in codecs} == {*NAMES, *EXAMPLES}
    assert len(codecs) == 4 * 2 + len(NAMES) + len(EXAMPLES) - 4
    calibration = milestones["calibrate"].data.tags["latentwire.calibration"]
    note = milestones["calibrate"].data.tags["mlflow.note.content"]
    assert calibration[:10] in note and "kvtc1" in note and "| demo_facts dev | " in note
    for run in codecs:  # each with a packet that says how long it is
        (packet,) = Path(run.info.artifact_uri.removeprefix("file://")).glob("*.lwkv")
        name = run.data.params["codec"].split("+")[0].split("/")[0]
        if name.startswith("tokens:"):  # without a budget all tokens are of the first class
            name = ":".join(name.split(":")[:2])
        if name.startswith("planes"):  # a stream says no rate: that is where it ends
            name = "planes8_klt" if name.endswith("_klt") else "planes8"
        assert name in describe(packet.read_bytes())
        assert run.data.metrics["bits_per_element"] > 0
    curve = pd.read_csv(project.folder / "out" / "budget_curve.csv")
    assert set(curve["dataset"]) == {"demo_facts", "demo_graded"}
    assert (curve["examples"] == 4).all()
    assert not curve["complete"].any()
    assert curve["fuser_hash"].nunique() == 1 and curve["fuser_hash"].notna().all()
    assert curve["dataset_hash"].nunique() == 2
    again = project.ok("main", **parameters)
    assert "m0: 10 conditions, 40 of 40 answers are finished" in again
    assert project.numbers() == first
    assert f"calibrate: finished (run {milestones['calibrate'].info.run_id})" in again
    # A calibrated codec is a condition of its calibration.
    project.ok("m2", pair="demo", limit=4, dataset="demo_facts", codec="turbo2,kvtc1")
    named = {
        (run.data.params["codec"], run.data.params["calibration"])
        for run in project.runs("condition")
    }
    assert named >= {("turbo2", calibration), ("kvtc1", calibration), ("int8", "none")}
    # A longer run begins with what the shorter one finished.
    dry = project.ok("m0", pair="demo", limit=8, chunk_size=8, dry_run="true")
    assert "m0: 10 conditions, 40 of 80 answers are finished" in dry


@pytest.mark.slow
def test_kills_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    """By how far the work is, and not by time: so on a fast machine as on a slow one."""
    parameters = {"pair": "demo", "limit": 36, "chunk_size": 4, "dataset": "demo_facts"}
    parameters |= {"order": "front", "keep_ratio": "1,0.5"}
    (tmp_path / "calm").mkdir()
    (tmp_path / "killed").mkdir()
    calm, killed = (Project.with_store(tmp_path / name) for name in ("calm", "killed"))
    calm.ok("m3", **parameters)
    chance = random.Random(7)
    for chunks in (0, 9, 2):  # of 36 that are there, since this start
        begun, there = killed.count("milestone"), killed.count("chunk")
        process = killed.start("m3", **parameters)
        while killed.count("milestone") == begun or killed.count("chunk") < there + chunks:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "it finished before it could be killed"
        process.kill()
        process.communicate()
    killed.ok("m3", **parameters)
    assert killed.numbers() == calm.numbers()
    for level in ("milestone", "condition", "chunk"):
        assert killed.runs(level, "RUNNING") == []
    aggregates = [_aggregates(project) for project in (calm, killed)]
    assert aggregates[0] == aggregates[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_runs_in_order(project: Project, number: signal.Signals) -> None:
    process = project.start("m3", pair="demo", dataset="demo_facts", chunk_size=5)
    while not project.count("chunk", "FINISHED"):  # what is on its way may wait in the outbox
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode in (130, 143), err
    assert "finished chunks are kept" in err
    assert "Traceback" not in err
    assert project.runs("milestone", "RUNNING") == project.runs("condition", "RUNNING") == []
    assert len(project.runs("milestone", "KILLED")) == 1
    assert project.numbers()


@pytest.mark.slow
def test_altered_records_are_named(project: Project) -> None:
    project.ok("m0", pair="demo", dataset="demo_facts", limit=4)
    (run,) = [r for r in project.runs("chunk") if r.data.params["system"] == "receiver"]
    records = Path(run.info.artifact_uri.removeprefix("file://")) / "records.jsonl"
    records.write_text(records.read_text().replace('"correct": true', '"correct": false'))
    records.write_text(records.read_text() + "\n")
    done = project.run("m4")  # draws the rest
    assert done.returncode == 0
    assert run.info.run_id in done.stderr
    assert "not those it logged" in done.stderr
    assert project.runs("milestone", "RUNNING") == []


def mlflow_run(
    project: Project, programs: Path, *parameters: str, entry: str = "m2"
) -> "subprocess.CompletedProcess[str]":
    """An entry point as `mlflow run` starts it, with the `python` of another folder."""
    options = [text for parameter in parameters for text in ("-P", parameter)]
    options = ["run", str(ROOT), "-e", entry, "--env-manager", "local", *options]
    environment = project.env | {
        "PATH": f"{programs}:{OWN}:{project.env['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.folder}/mlflow.db",
    }
    process = the_launcher().start_module("mlflow", options, project.folder, environment)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(options, process.wait(), out, err)


@pytest.fixture
def forked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `python` that has entry points forked."""
    folder = tmp_path_factory.mktemp("programs")
    write_python(folder / "python", the_launcher())
    return folder


@pytest.mark.slow
def test_a_failed_preflight_leaves_no_run_running(project: Project, forked: Path) -> None:
    done = mlflow_run(project, forked, "pair=demo", "device=cuda")
    assert done.returncode != 0
    assert "error: preflight: device: device=cuda: this machine has 0 CUDA" in done.stderr
    client = _client(project)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FAILED"]  # the one that `mlflow run` made


@pytest.mark.slow
def test_mlflow_run_starts_an_entry_point(project: Project, forked: Path) -> None:
    """scripts/runpod.sh has one started with imports of its own: see its test."""
    done = mlflow_run(project, forked, "pair=demo", "kv_bits=4", "limit=4", "dataset=demo_facts")
    assert done.returncode == 0, done.stdout + done.stderr
    (milestone,) = project.runs("milestone")
    assert milestone.data.params["kv_bits"] == "4"
    assert milestone.info.run_name.startswith("m2 demo")
    assert {run.data.params["codec"] for run in project.runs("condition")} == {"int4"}
    assert {run.data.params["control"] for run in project.runs("chunk")} == {"matched", "deranged"}


@pytest.mark.slow
def test_a_calibration_that_mlflow_run_made_is_found(project: Project, forked: Path) -> None:
    small = ("pair=demo", "dataset=demo_facts", "calibration_examples=4")
    done = mlflow_run(project, forked, *small, entry="calibrate")
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = project.runs("milestone")
    assert made.data.params["dtype"] == "auto"  # MLflow has logged what was given
    project.ok("m2", dataset="demo_facts", codec="kvtc3", limit=2)
    calibrations = {run.data.params["calibration"] for run in project.runs("condition")}
    assert calibrations == {made.data.tags["latentwire.calibration"]}


@pytest.mark.slow
def test_the_published_study_as_runs(project: Project, shared_dir: Path) -> None:
    reference = (shared_dir / "reference").resolve()
    project.ok("published", reference_dir=reference)
    project.ok("published", reference_dir=reference)
    assert len(project.runs("chunk")) == 22
    project.env[DRAWN] = "yes"
    project.ok("m4", source="published", output_dir="out")
    del project.env[DRAWN]
    curve = pd.read_csv(project.folder / "out" / "budget_curve.csv")
    table = pd.read_csv(reference / "published_results.csv")
    table = table[table["source"] == "latentwire-2026-02"]
    for row in curve.itertuples():
        scheme = "fp16" if row.codec == "bf16" else row.codec
        same = table[
            (table["dataset"] == row.dataset)
            & (table["scheme"] == scheme)
            & (table["cache_proportion"] == row.keep_ratio)
            & (table["order_mode"] == row.order)
            & table["milestone"].isin(["M0", "M2", "M3"])
        ]
        assert len(same)
        assert (abs(same["accuracy"] - row.accuracy) < 0.00051).all()
    whole = curve[(curve["codec"] == "bf16") & (curve["dataset"] == "openbookqa")].iloc[0]
    header = 34  # and a byte more where the prompt has over 128 tokens
    assert whole["wire_bytes_mean"] == pytest.approx(12_288 * (117.926 - 1) + header, abs=1)
    assert (project.folder / "out" / "budget_curve_arc_c.png").stat().st_size > 20_000
    verdicts = ("accuracies reproduced, answers not compared\n", "reproduced\n")
    for options, verdict in zip(({}, {"reference_dir": reference}), verdicts, strict=True):
        printed = project.ok("reproduce", source="published", output_dir="out", **options)
        assert f"latentwire-2026-02, qwen3_0.6b+qwen2.5_0.5b: {verdict}" in printed
    rows = pd.read_csv(project.folder / "out" / "reproduction.csv")
    assert (rows["verdict"] == "reproduced").all() and (rows["agreement"] == 1).all()
    factor = rows["wire_bytes_published_mean"] / rows["wire_bytes_mean"]
    assert factor[rows["keep_ratio"] == 1].between(4.2, 4.8).all()
    done = project.run("reproduce")
    assert done.returncode == BAD_INPUT and "no finished local answers" in done.stderr


def _client(project: Project):  # type: ignore[no-untyped-def]
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")


def _aggregates(project: Project) -> dict[str, tuple[float, ...]]:
    """Condition fingerprint -> its metrics, of the finished condition runs."""
    runs = project.runs("condition")
    found = {
        run.data.tags["latentwire.fingerprint"]: tuple(sorted(run.data.metrics.items()))
        for run in runs
    }
    assert len(found) == len(runs), "a condition is finished twice"
    return found  # type: ignore[return-value]
