"""`main` over questions of every odd form that real ARC-Challenge has: it ends well, and no form
takes another with it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pandas as pd
import pytest
from in_process import run_milestone
from mlflow import MlflowClient
from mlflow.entities import Run

from latentwire.analysis.curve import read_csv
from latentwire.evaluation.record import Record, read_records
from latentwire.milestones import codec_measurements, main
from latentwire.parameters import Values
from latentwire.tasks import arc_c, openbookqa
from latentwire.tasks.registry import TASKS

Row = dict[str, Any]
CONTEXT = 512  # tokens that the bundled models were made for
ORDINARY = 3


@pytest.fixture
def odd_rows(request: pytest.FixtureRequest) -> list[Row]:
    """The odd rows of the real set, and as many ordinary ones; without it, rows of the same forms.

    Three and five options, labels and keys that are numbers, a key E, and prompts that are longer
    than the models' context.
    """
    try:
        folder = request.getfixturevalue("shared_dir") / "data" / "ai2_arc" / "ARC-Challenge"
    except pytest.skip.Exception:
        return made_rows()
    rows = [
        json.loads(line)
        for split in ("test", "validation")
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    labels = ["".join(row["choices"]["label"]) for row in rows]
    odd = [row for row, name in zip(rows, labels, strict=True) if name not in ("ABCD", "1234")]
    usual = [row for row, name in zip(rows, labels, strict=True) if name == "ABCD"]
    usual.sort(key=lambda row: len(json.dumps(row)))
    numbered = [row for row, name in zip(rows, labels, strict=True) if name == "1234"]
    return [*odd, *usual[:ORDINARY], *usual[-2:], *numbered[:2]]


def made_rows() -> list[Row]:
    forms = [("ABCDE", "D"), ("ABCDE", "A"), ("ABC", "C"), ("1234", "2"), ("123", "1")]
    forms += [("ABCDE", "E"), *[("ABCD", key) for key in "BDC"]]
    rows = [made_row(place, labels, key) for place, (labels, key) in enumerate(forms)]
    return [*rows, made_row(len(rows), "ABCD", "C", words=400)]


def made_row(place: int, labels: str, key: str, words: int = 3) -> Row:
    text = " ".join(("warm", "cold", "large", "small")[(place + n) % 4] for n in range(words))
    return {
        "id": f"made:{place}",
        "question": f"Which of these is {text}?",
        "choices": {"text": [f"number {label}" for label in labels], "label": list(labels)},
        "answerKey": key,
    }


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd_rows: list[Row]) -> Path:
    """A cut of the published sets; that they are whole is checked elsewhere, and so are all codecs
    in M1."""
    monkeypatch.setattr(codec_measurements, "NAMES", ("int8", "kvtc1"))
    monkeypatch.setattr(codec_measurements, "EXAMPLES", ())
    folder = tmp_path / "data"
    plain = [made_row(100 + n, "ABCD", "ABCD"[n]) for n in range(3)]
    for row in plain:
        row["question_stem"] = row.pop("question")
    for task, rows in ((arc_c.TASK, odd_rows), (openbookqa.TASK, plain)):
        splits = [replace(split, expected=None) for split in (task.test, task.training)]
        cut = replace(task, test=splits[0], training=splits[1])
        monkeypatch.setitem(TASKS, task.name, cut)
        for split in splits:
            (folder / split.file).parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / split.file).write_text(lines, encoding="utf-8")
    return folder


def runs(folder: Path) -> Iterator[Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    yield from client.search_runs([e.experiment_id for e in client.search_experiments()])


def records_of(found: list[Run], **params: str) -> list[Record]:
    """The answers of one condition on ARC-C, in order."""
    wanted = {"dataset": "arc_c", **params}
    chunks = [
        run
        for run in found
        if run.data.tags["latentwire.level"] == "chunk"
        and wanted.items() <= run.data.params.items()
    ]
    records: list[Record] = []
    for run in chunks:
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        records += read_records(folder / "records.jsonl")
    return sorted(records, key=lambda record: record.index)


@pytest.mark.slow
def test_main_ends_well_over_every_form(
    empty: Path, data_dir: Path, odd_rows: list[Row], values: Callable[..., Values]
) -> None:
    given = {"data_dir": data_dir, "dataset": "openbookqa,arc_c", "output_dir": empty / "out"}
    given |= {"message_tokens": 8, "m2_kv_bits": 4, "sample": 1, "calibration_examples": 4}
    given |= {"m3_keep_ratio": 0.1}  # from either end: the fewest tokens of each form
    run_milestone(main, values(main, **given))
    found = list(runs(empty))
    assert {run.info.status for run in found} == {"FINISHED"}
    scored = [row for row in odd_rows if row["answerKey"] in "ABCD"]
    options = [len(row["choices"]["text"]) for row in scored]
    assert {3, 4, 5} <= set(options) and len(scored) < len(odd_rows)

    receiver = records_of(found, system="receiver")
    long = [record.prompt_tokens > CONTEXT for record in receiver]
    assert [record.example_id for record in receiver] == [row["id"] for row in scored]
    assert 0 < sum(long) < len(long) / 2
    assert [record.unanswered is not None for record in receiver] == long
    for record, count, lost in zip(
        records_of(found, system="logits", control="matched"), options, long, strict=True
    ):
        assert record.wire_bytes == (0 if lost else 8 if count <= 4 else 10)
        assert lost or str(record.predicted) in ascii_uppercase[:count]

    curve = read_csv(empty / "out" / "budget_curve.csv")
    assert curve["complete"].all() and set(curve["dataset"]) == {"arc_c", "openbookqa"}
    arc = curve[curve["dataset"] == "arc_c"]
    assert (arc["examples"] == len(scored)).all()
    assert (arc.loc[arc["system"] != "letter", "unanswered"] >= sum(long)).all()
    assert not curve.loc[curve["dataset"] == "openbookqa", "unanswered"].any()
    silent = curve["system"].isin(["logits", "calibrated"])
    assert curve.loc[silent, "in_format_share"].isna().all()
    assert curve.loc[curve["system"].isin(["receiver", "c2c"]), "in_format_share"].notna().all()
    milestones = [run for run in found if run.data.tags["latentwire.level"] == "milestone"]
    (m0,) = [run for run in milestones if run.data.tags["latentwire.milestone"] == "m0"]
    table = (Path(m0.info.artifact_uri.removeprefix("file://")) / "table.txt").read_text()
    table = " ".join(table.split())
    assert "could not be answered" in table and f"the {CONTEXT} positions" in table
    assert pd.read_csv(empty / "out" / "crossings.csv")["questions"].min() > 0
