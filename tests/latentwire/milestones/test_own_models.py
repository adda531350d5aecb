"""Pairs of one's own whose models are not as ours: the right answers, or one sentence first."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from copied_pair import pair_of
from in_process import run_milestone
from mlflow import MlflowClient

from c2c.errors import C2CError
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import stop_ids
from latentwire.milestones import m0, m2
from latentwire.pairs.prompting import Prompting
from latentwire.session import pair_in_use
from latentwire.session.preflight_state import open_session
from latentwire.session.session import Session


@pytest.fixture
def pair(folder: Path) -> Path:
    """A copy of the bundled pair, to be changed."""
    return pair_of(folder)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def fingerprint(opened: Session) -> str:
    return opened.setting("demo_facts").identity()


def test_prompts_of_a_dated_template_are_the_same_on_every_day(
    pair: Path, values, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = open_session(values(m2, pair=pair))
    template = pair.parent / "receiver" / "chat_template.jinja"
    template.write_text("{{- strftime_now('%A %d %B %Y, %H:%M') }}\n" + template.read_text())
    found = []
    for zone in ("Etc/GMT+12", "Etc/GMT-14"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        opened = open_session(values(m2, pair=pair))
        found.append((fingerprint(opened), opened.asked("demo_facts")[:3]))
    monkeypatch.undo()
    time.tzset()
    assert found[0] == found[1]
    # Nor is it the identity that the changed file alone gives, under which older versions stored
    # the answers of whichever day it was.
    of_files = {k: v for k, v in opened.files.identity.items() if k != "prompt"}
    assert len(of_files) == len(opened.files.identity) - 1
    assert len({fingerprint(plain), found[0][0]}) == 2
    with caplog.at_level(logging.INFO, "latentwire"):
        _ = opened.loaded
    assert pair_in_use.DATE_TOLD in caplog.text


def test_answers_end_where_the_tokenizer_and_the_template_say(pair: Path, values) -> None:
    plain = open_session(values(m2, pair=pair))
    for name in ("config.json", "generation_config.json"):
        change(pair.parent / "sharer" / name, eos_token_id=0)
    opened = open_session(values(m2, pair=pair))
    assert fingerprint(opened) != fingerprint(plain)
    assert opened.files.identity["sharer_ends"] == "0,2"
    assert stop_ids(opened.loaded.sharer) == {0, 2}
    assert stop_ids(opened.loaded.receiver) == {2}
    assert plain.files.identity.keys() == {"receiver", "sharer", "fuser"}


def test_answers_that_all_run_on_are_warned_of(
    pair: Path,
    values,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a model whose end of turn nothing knows."""
    ends: dict[str, frozenset[int]] = {"receiver": frozenset({2}), "sharer": frozenset({0})}
    monkeypatch.setattr(pair_in_use, "prompting_of", lambda *pair: Prompting("", "", ends, ends))
    run_milestone(m0, values(m0, pair=pair, limit=3))
    told = "demo_facts, sharer alone: 3 of 3 answers ran to the limit of 64 tokens"
    captured = capsys.readouterr()
    assert " ".join((captured.out + captured.err).split()).count(told) == 1
    assert not any(told in record.getMessage() for record in caplog.records)
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "latentwire"]
    (run,) = client.search_runs(
        [experiment.experiment_id], "tags.`latentwire.level` = 'milestone' and params.pair = 'mine'"
    )
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "conditions.csv"
    rows = pd.read_csv(path).set_index("system")
    assert rows.loc["sharer", "at_limit"] == 3 and rows.loc["receiver", "at_limit"] == 0


@pytest.mark.parametrize("part", ["receiver", "sharer"])
def test_models_that_cannot_be_evaluated_end_before_work_starts(
    pair: Path, values, part: str
) -> None:
    config = pair.parent / part / "config.json"
    kept = config.read_text()
    for asked, words in (
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized \\(gptq\\)"),
        ({"model_type": "of_tomorrow"}, "config.json does not describe one"),
        ({"vocab_size": 800}, "embedding has 901 rows, config.json says vocab_size 800"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"max_position_embeddings": 64}, f"500 of 500 .* the {part} was made for texts of 64"),
        (
            {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 0,
             "layer_types": None},
            f"500 of 500 .* the {part} has layers that look back 100 tokens",
        ),
    ):  # fmt: skip
        change(config, **asked)
        with pytest.raises(LatentWireError, match=rf"^preflight: .*{words}") as error:
            open_session(values(m2, pair=pair))
        assert "\n" not in str(error.value)
        config.write_text(kept)
    change(config, _attn_implementation="flash_attention_2")
    open_session(values(m2, pair=pair))


def test_without_preflight_a_model_still_ends_in_one_sentence(pair: Path, values) -> None:
    change(
        pair.parent / "sharer" / "config.json",
        quantization_config={"quant_method": "awq", "bits": 4},
    )
    opened = open_session(values(m2, pair=pair, preflight="skip"))
    with pytest.raises(C2CError, match=r"its weights are quantized \(awq\)") as error:
        _ = opened.loaded
    assert "\n" not in str(error.value)


def test_a_fuser_whose_gates_are_all_closed_is_said(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from c2c.projector import Projector

    monkeypatch.setattr(Projector, "is_open", lambda self, kind: False)
    _ = open_session(values(m2)).loaded
    assert [r.levelname for r in caplog.records if "every gate" in r.getMessage()] == ["WARNING"]
