"""LatentWire from Python."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import latentwire as lw
from c2c.errors import C2CError
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.records_frame import COLUMNS, records_frame
from latentwire.api import _sentences, _texts, _tracking
from latentwire.evaluation.record import Record
from latentwire.milestones.registry import load_milestone

ROOT = Path(__file__).parents[2]
TAKES_SECONDS = ("torch", "transformers", "mlflow", "pandas", "numpy", "datasets", "yaml")


def test_to_import_the_package_takes_no_time() -> None:
    script = (
        "import sys, latentwire as lw; lw.run, lw.LatentWireError, dir(lw); print(*sys.modules)"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "C2C")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(TAKES_SECONDS) & set(done.stdout.split())
    assert "latentwire.api" in done.stdout.split()


def test_the_public_names_are_there_and_said() -> None:
    page = (ROOT / "docs" / "your_own.md").read_text()
    for name in lw.__all__:
        assert getattr(lw, name).__doc__
        assert name in ("__version__", "MilestoneResult") or f"lw.{name}" in page
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lw.nothing
    assert (ROOT / "latentwire" / "py.typed").is_file()


def test_parameters_are_written_as_on_the_command_line() -> None:
    given: dict[str, Any] = {
        "kv_bits": [8, 4],
        "dry_run": True,
        "data_dir": Path("here"),
        "codec": None,
        "pair": "demo",
    }
    texts = _texts(load_milestone("m2"), given)
    assert texts["kv_bits"] == "8,4" and texts["dry_run"] == "true"
    assert texts["data_dir"] == "here" and texts["codec"] == "" and texts["pair"] == "demo"
    assert texts["seed"] == "42"


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: lw.run("m22"), "unknown entry point 'm22'; known: baselines, "),
    (lambda: lw.run("m2", kv_bit=4), r"m2 has no parameter 'kv_bit' \(did you mean kv_bits\?\)"),
    (lambda: lw.run("m2", kv_bits=[5]), "kv_bits=5: must be one of 2, 3, 4, 8, 16 bits"),
    (lambda: lw.run("m2", dataset="none.csv"), "none.csv: cannot be read"),
    (lambda: lw.curve("none.db"), "there is no tracking store .*none.db: run a milestone first"),
    (lambda: lw.curve("ftp://x"), "ftp"),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_what_is_wrong_is_the_command_lines_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lw.LatentWireError, match=said) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())  # nothing was made


def test_errors_of_the_machine_are_sentences_and_faults_stay_faults() -> None:
    for error in (C2CError("no prompt"), OSError(28, "No space left"), MemoryError()):
        with pytest.raises(lw.LatentWireError) as refused, _sentences():
            raise error
        assert refused.value.__cause__ is error
    with pytest.raises(ZeroDivisionError), _sentences():
        _ = 1 / 0


def test_a_store_is_named_for_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with _tracking("http://there") as uri:
        assert uri == os.environ["MLFLOW_TRACKING_URI"] == "http://there"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://before")
    with pytest.raises(ZeroDivisionError), _tracking(Path("a.db")) as uri:
        assert uri == f"sqlite:///{Path('a.db').absolute()}"
        _ = 1 / 0
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://before"
    with _tracking(None) as uri:
        assert uri == "http://before"


def test_records_have_their_columns_and_types() -> None:
    record = Record("a", 3, "B", None, False, 9, 1, 100, "?", score=0.5)
    part = ConditionResult(
        system="c2c",
        codec="int8",
        keep_ratio=1.0,
        order="front",
        control="matched",
        kv_bits=8,
        pair="p",
        dataset="d",
        source="local",
        examples_total=1,
        records=(record,),
        seconds=1.0,
    )
    for found in (records_frame([part]), records_frame([])):
        assert {name: str(kind) for name, kind in found.dtypes.items()} == COLUMNS
    (row,) = records_frame([part]).to_dict("records")
    assert pd.isna(row["predicted"]) and row["score"] == 0.5 and row["index"] == 3
    assert (row["codec"], row["control"], row["wire_bytes"]) == ("int8", "matched", 100)
