"""M4 on a store of made-up answers to real questions."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from latentwire.analysis.curve import read_csv
from latentwire.analysis.output_folder import MANIFEST
from latentwire.analysis.pictures import ENDINGS
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.milestones import budget_curves, m4, m14, regimes
from latentwire.pairs.load import PAIRS_DIR
from latentwire.parameters import checked
from latentwire.tasks.registry import load_dataset
from latentwire.tasks.task import Example
from latentwire.tracking.finished_chunks import chunk_name
from latentwire.tracking.results_reader import chunks_from, identity_counts, newest, origins
from latentwire.tracking.runs import (
    CHUNK,
    CODE_SHA,
    CONDITION,
    FINGERPRINT,
    IDENTITY,
    MILESTONE,
    SOURCE,
    RunWriter,
)
from latentwire.tracking.store import Store

pytestmark = pytest.mark.usefixtures("blank")  # files are counted here, and not looked at

FUSER = "fa" * 32
Answer = Callable[[Example], str]


def log_milestone(
    store: Store,
    answer: Answer,
    *,
    codec: str = "int8",
    keep_ratio: float = 1.0,
    identity: str = "new",
    count: int = 12,
    describe: bool = True,
    pair: str = "demo",
    total: int | None = None,
) -> str:
    """A milestone run of one channel, matched and deranged, in chunks of six; its id."""
    tags = {MILESTONE: "m2", CODE_SHA: "c0de", SOURCE: "local", IDENTITY: identity}
    writer = RunWriter(store, tags)
    top = writer.start("m2 demo", "milestone", None, {}, {})
    if describe:
        for name, content in (
            ("config.json", {"device": "cpu", "dtype": "float32"}),
            ("environment.json", {"gpus": [], "git": {"commit": "c0de"}}),
            ("checkpoints.json", {"identity": {"fuser": f"sha256:{FUSER}"}}),
        ):
            writer.log_text(top, json.dumps(content), name)
    dataset = load_dataset("demo_facts")
    for control in ("matched", "deranged"):
        params = {
            "pair": pair,
            "dataset": "demo_facts",
            "system": "c2c",
            "codec": codec,
            "kv_bits": "8",
            "keep_ratio": str(keep_ratio),
            "order": "front",
            "control": control,
            "examples_total": str(total or len(dataset.examples)),
        }
        condition = f"{pair} {codec} {keep_ratio} {control} {identity}"
        middle = writer.start(condition, "condition", top, params, {CONDITION: condition})
        for start in range(0, count, 6):
            span = chunk_name(start, start + 6)
            asked = dataset.examples[start : start + 6]
            records = [_record(example, answer, control, keep_ratio) for example in asked]
            writer.write_chunk(
                span,
                middle,
                params,
                {FINGERPRINT: f"{condition} {span}", CONDITION: condition, CHUNK: span},
                records,
                {"examples": len(records)},
            )
        writer.finish(middle)
    writer.finish(top)
    return top


def _record(example: Example, answer: Answer, control: str, keep_ratio: float) -> Record:
    letter = answer(example) if control == "matched" else "A"
    return Record(
        *(example.id, example.index, example.answer, letter, letter == example.answer, 90, 4),
        *(int(1000 * keep_ratio), f"The correct answer is {letter}"),
        elements=500,
    )


def right(example: Example) -> str:
    return example.answer


def values(**texts: str) -> dict[str, Any]:
    defaults = {parameter.name: parameter.default for parameter in m4.PARAMETERS}
    return checked(m4.PARAMETERS, defaults | texts)


def report_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
    return json.loads(text)  # type: ignore[no-any-return]


def test_each_line_of_complete_conditions_is_a_json_file(store: Store, tmp_path: Path) -> None:
    for ratio in (1.0, 0.5):
        log_milestone(store, right, keep_ratio=ratio, count=6, total=6)
    log_milestone(store, right, keep_ratio=0.25, count=6, pair="other", total=12)
    m4.run(values(output_dir=str(tmp_path / "out")))
    (path,) = (tmp_path / "out").glob("curve_*.json")
    assert path.name == "curve_demo_facts_demo_int8_front.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert (results["bpp"], results["accuracy"]) == ([4000, 8000], [1, 1])
    (run,) = store.search(f"tags.`{MILESTONE}` = 'm4'")
    assert path.name in {file.path for file in store.client.list_artifacts(run.info.run_id)}


def test_everything_is_logged_and_written(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = log_milestone(store, lambda example: "B", identity="old", describe=False)
    runs = [log_milestone(store, right), log_milestone(store, right, keep_ratio=0.5)]
    out = tmp_path / "out"
    m4.run(values(output_dir=str(out)))
    names = {path.name for path in out.iterdir()}
    assert names - {MANIFEST} == {
        *("budget_curve.csv", "budget_curve.tex", "crossings.csv", "report.html"),
        *(f"budget_curve_demo_facts{ending}" for ending in ENDINGS),
        *(f"bits_length_demo_facts{ending}" for ending in ENDINGS),
    }
    names.remove(MANIFEST)
    printed = capsys.readouterr().out
    assert f"open {out}/report.html ({len(names)} files: " in printed
    assert "#/experiments/" in printed.splitlines()[-1]
    assert (
        "demo_facts, demo: no whole cache in 16 bits (m0) has answered all 500 questions" in printed
    )
    found = [line for line in printed.splitlines() if "/" not in line]  # no path, no address
    assert not [line for line in found if len(line) > 100]
    (run,) = store.search(f"tags.`{MILESTONE}` = 'm4'")
    assert {file.path for file in store.client.list_artifacts(run.info.run_id)} > names

    frame = read_csv(out / "budget_curve.csv")
    assert (frame["accuracy"] == 1).all()  # nothing of the old identity
    assert set(frame["fuser_hash"]) == {FUSER}
    dataset = load_dataset("demo_facts")
    assert set(frame["dataset_hash"]) == {dataset.hash}

    page = report_of(out / "report.html")
    assert "answers of 2 identities of demo" in page["cautions"][0]
    assert any("not all questions are answered yet" in caution for caution in page["cautions"])
    assert [row["run_id"] for row in page["runs"]] == runs and old not in runs
    assert [row["answers"] for row in page["runs"]] == [24, 24]
    assert {row["device"] for row in page["runs"]} == {"cpu"}
    (table,) = page["questions"]
    assert len(table["prompts"]) == len(dataset.examples)
    assert dataset.examples[0].question in table["prompts"][0]
    assert str(tmp_path) not in (out / "report.html").read_text(encoding="utf-8")


def regimes_of(**texts: str) -> dict[str, Any]:
    defaults = {parameter.name: parameter.default for parameter in m14.PARAMETERS}
    return checked(m14.PARAMETERS, defaults | texts)


@pytest.mark.slow
def test_the_report_has_the_map_of_m14_and_says_when_it_is_old(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    for ratio in (1.0, 0.5):
        log_milestone(store, right, keep_ratio=ratio, count=6, total=6)
    out = tmp_path / "out"
    m4.run(values(output_dir=str(out)))
    assert report_of(out / "report.html")["regimes"] == []
    reads, looks = [], []
    read, search = regimes.read_answers, regimes.chunks_from
    monkeypatch.setattr(regimes, "read_answers", lambda *a: reads.append(a) or read(*a))
    monkeypatch.setattr(regimes, "chunks_from", lambda *a: looks.append(a) or search(*a))
    m14.run(regimes_of(budget_bytes="1,500,1000", link_mbit_per_s="1,100"))
    assert (len(reads), len(looks)) == (1, 1)
    assert len({run.info.run_id for run in reads[0][1]}) == len(reads[0][1]) == 4
    said = capsys.readouterr().out
    assert said.count("m1 has measured nothing of this pair and question set") == 1
    m4.run(values(output_dir=str(out)))
    (found,) = report_of(out / "report.html")["regimes"]
    assert (found["pair"], found["dataset"]) == ("demo", "demo_facts")
    assert found["budgets"] == [500, 1000] and len(found["lines"]) == 4
    cells = [cell for line in found["lines"] for cell in line["cells"]]
    assert {(cell["kind"], cell["score"], cell["ms"]) for cell in cells} == {("cache", 1, None)}
    assert {cell["condition"] for cell in cells} == {"int8 0.5 front"}
    assert len(found["said"]) == 9 and "have been added" not in found["note"]
    log_milestone(store, right, keep_ratio=0.25, count=6, total=6)
    m4.run(values(output_dir=str(out)))
    (later,) = report_of(out / "report.html")["regimes"]
    assert "answers have been added since: run m14 again" in later["note"]
    for pair, why in (("other", r"no finished chunk runs \(local and other\)"), ("o.yaml", "read")):
        with pytest.raises(LatentWireError, match=why):
            m14.run(regimes_of(pair=pair))


def test_pictures_of_an_earlier_time_are_named(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_milestone(store, right)
    out = tmp_path / "out"
    m4.run(values(output_dir=str(out)))
    assert "earlier" not in caplog.text
    log_milestone(store, right, pair="mine[/v2]")
    m4.run(values(output_dir=str(out)))
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    (said,) = [text for text in warned if "earlier start" in text]
    assert "budget_curve_demo_facts.png" in said and "budget_curve_demo_facts_demo" not in said
    assert (out / "budget_curve_demo_facts.png").exists()
    assert set(read_csv(out / "budget_curve.csv")["pair"]) == {"demo", "mine[/v2]"}


def test_runs_that_say_little_are_listed_with_what_they_say(store: Store) -> None:
    run_id = log_milestone(store, right, describe=False)
    chunks = chunks_from(store, "local", None)
    (origin,) = origins(store, chunks)
    assert (origin.run_id, origin.milestone, origin.answers) == (run_id, "m2", 24)
    for run, value in zip(chunks, (float("nan"), float("inf")), strict=False):
        run.data.metrics["examples"] = value  # which counts for nothing
    (origin,) = origins(store, chunks)
    assert origin.answers < 24
    assert (origin.fuser_hash, origin.device, origin.commit) == (None, "", "")
    assert identity_counts(chunks) == {"demo": 1}
    frame = budget_curves.load_curve(store, ("local",), None, None)
    assert frame["fuser_hash"].isna().all()


def test_question_sets_that_are_missing_or_others_are_said(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_milestone(store, right)

    def fail(name: str, data_dir: Path | None = None, download: bool = True) -> None:
        raise LatentWireError("no network")

    monkeypatch.setattr(budget_curves, "load_dataset", fail)
    m4.run(values(output_dir=str(tmp_path / "none")))
    page = report_of(tmp_path / "none" / "report.html")
    assert "No prompts of demo_facts (no network)." in page["cautions"]
    assert page["questions"][0]["prompts"] is None
    assert pd.isna(read_csv(tmp_path / "none" / "budget_curve.csv")["dataset_hash"]).all()

    monkeypatch.setattr(
        budget_curves, "load_dataset", lambda name, *where: load_dataset("demo_graded")
    )
    m4.run(values(output_dir=str(tmp_path / "other")))
    page = report_of(tmp_path / "other" / "report.html")
    assert any("demo_facts at hand is not the one" in caution for caution in page["cautions"])
    assert page["questions"][0]["prompts"] is None
    assert page["groups"][0]["dataset_hash"] is None


def test_an_empty_store_is_refused_in_a_sentence(store: Store) -> None:
    with pytest.raises(LatentWireError, match="has no finished chunk runs"):
        m4.run(values())
    assert list(store.search(f"tags.`{MILESTONE}` = 'm4'")) == []


def test_a_pair_given_by_its_file_is_found_by_its_name(store: Store, tmp_path: Path) -> None:
    log_milestone(store, right)
    m4.run(values(pair=str(PAIRS_DIR / "demo.yaml"), output_dir=str(tmp_path / "out")))
    assert set(read_csv(tmp_path / "out" / "budget_curve.csv")["pair"]) == {"demo"}
    with pytest.raises(LatentWireError, match=r"nobody.yaml"):
        m4.run(values(pair=str(tmp_path / "nobody.yaml")))
    with pytest.raises(LatentWireError, match=r"no finished chunk runs .*own_pair"):
        m4.run(values(pair="own_pair"))  # perhaps a name in somebody else's store


def test_of_several_seeds_that_of_most_answers_pairs_the_questions() -> None:
    """A second seed for one codec takes no gain from the others, nor from another dataset; answers
    are counted, and not the chunks that they lie in."""

    def chunk(ended_ms: int, control: str, examples: int = 10, **params: str) -> Any:
        known = {"pair": "demo", "dataset": "demo_facts", "control": control}
        data = {"params": known | params, "metrics": {"examples": examples}, "tags": {}}
        return SimpleNamespace(
            info=SimpleNamespace(end_time=ended_ms), data=SimpleNamespace(**data)
        )

    own, earlier = chunk(1, "matched"), chunk(2, "deranged")  # made when it had no parameter
    usual, other = chunk(3, "deranged", seed="42"), chunk(4, "deranged", seed="8")
    assert newest([own, earlier, usual]) == [own, earlier, usual]
    assert newest([own, earlier, usual, other]) == [own, earlier, usual]
    another = chunk(2, "deranged", seed="8")
    assert newest([own, earlier, usual, other, another]) == [own, other, another]  # the newest
    large = chunk(1, "deranged", examples=30, seed="42")
    assert newest([own, large, other, another]) == [own, large]
    elsewhere = chunk(5, "deranged", seed="8", dataset="demo_graded")
    assert newest([own, earlier, usual, elsewhere]) == [own, earlier, usual, elsewhere]
