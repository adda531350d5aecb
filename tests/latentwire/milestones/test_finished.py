"""A start that finds all finished: it computes nothing, and so brings and checks no models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from copied_pair import pair_of
from in_process import run_milestone
from launched import options_of
from mlflow import MlflowClient

from latentwire.errors import LatentWireError
from latentwire.milestones import m2
from latentwire.session import known_pairs, work_checks
from latentwire.session.preflight_state import open_session
from latentwire.terminal import QUIET, VERBOSITY
from latentwire.tracking.store import open_store

STUDIED = {"kv_bits": 4, "limit": 6, "chunk_size": 4, "dataset": "demo_facts"}  # see `studied`
AT_WORK = "preflight: 4 checks of device, models and prompts passed"
START = """
import sys
from latentwire.run_entry_point import main
for said, more in (("planned", ["--dry-run", "true"]), ("concluded", [])):
    try:
        main("m2", [*sys.argv[1:], *more])
    except SystemExit as end:
        print("ended with", end.code)
    print(f"{said} with:", *sys.modules)
"""


def test_it_imports_no_models(folder: Path) -> None:
    given = {"pair": "demo", **STUDIED}
    options = options_of(given)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", START, *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "C2C")])},
        capture_output=True,
        text=True,
    )
    assert "m2: 2 conditions, 12 of 12 answers are finished\n" in done.stdout, done.stderr
    assert done.stdout.count("ended with 0\n") == 2
    planned, concluded = (
        set(done.stdout.rpartition(f"{said} with: ")[2].split("\n")[0].split())
        for said in ("planned", "concluded")
    )
    models = {"torch", "transformers", "tokenizers", "sklearn", "datasets"}
    assert (models | {"scipy.stats", "statsmodels", "matplotlib"}) & planned == set()
    assert {"mlflow", "matplotlib"} <= concluded  # a run with its pictures is made
    assert not models & concluded


def test_it_leaves_out_what_matters_to_work_alone(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(work_checks, "memory_suffices", lambda opening: pytest.fail("checked"))
    run_milestone(m2, values(m2, **STUDIED))
    out = capsys.readouterr().out
    assert re.search(r"preflight: 12 checks passed\nm2: .* 12 of 12 answers are", out)


def test_quietly_it_prints_the_result_alone(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VERBOSITY, QUIET)
    run_milestone(m2, values(m2, **STUDIED))
    assert capsys.readouterr().out.startswith("demo_facts, demo\n")


def test_what_is_missing_is_computed_only_once_all_is_checked(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(open_store().search()))
    more = STUDIED | {"limit": 7}
    with monkeypatch.context() as patch:
        patch.setattr(work_checks, "check_memory", refuse)
        with pytest.raises(LatentWireError, match=r"^preflight: memory: no room; to mend: end "):
            run_milestone(m2, values(m2, **more))
    assert len(list(open_store().search())) == before
    run_milestone(m2, values(m2, **more))
    assert AT_WORK in capsys.readouterr().out


def refuse(device: str, weights: int, whole: bool) -> str:
    raise LatentWireError("no room")


def test_nothing_is_computed_under_an_identity_that_is_only_remembered(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = open_store().search("tags.`latentwire.level` = 'milestone'")
    false = json.dumps({"prompt": "sha256:" + "0" * 64})
    MlflowClient().set_tag(run.info.run_id, known_pairs.BESIDE_FILES, false)
    session = open_session(values(m2, **STUDIED), may_wait=True)
    assert session.files.identity["prompt"].endswith("000")
    run_milestone(m2, values(m2, **STUDIED))
    out = capsys.readouterr().out
    assert AT_WORK in out and "12 of 12 answers are finished" in out


def test_a_pair_is_remembered_only_as_it_was(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remembered() -> bool:
        return open_session(values(m2, pair=pair), may_wait=True).kept.waiting is not None

    pair = pair_of(folder)
    assert remembered()  # the same files elsewhere
    with monkeypatch.context() as patch:
        patch.setattr(known_pairs, "_LIBRARIES", ("jinja2",))
        assert not remembered()
    with monkeypatch.context() as patch:
        patch.setattr(known_pairs, "_CODE", [Path(__file__)])
        assert not remembered()
    unhashed = folder / "sharer" / "additional_chat_templates" / "default.jinja"
    unhashed.parent.mkdir()
    unhashed.write_text((folder / "sharer" / "chat_template.jinja").read_text())
    assert not remembered()
    unhashed.unlink()
    assert remembered()
    config = folder / "receiver" / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    assert not remembered()
