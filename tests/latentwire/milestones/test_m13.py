"""M13 on the bundled pair: chosen once on other questions, every message within its budget."""

from pathlib import Path

import pytest
from in_process import run_milestone
from tests_support import empty_store, table_of

from latentwire.channel.codec_names import needs_calibration
from latentwire.errors import LatentWireError
from latentwire.milestones import calibrate, equal_bytes, m13
from latentwire.session.preflight_state import open_session

GIVEN = {
    "dataset": "demo_facts",
    "limit": 3,
    "chunk_size": 3,
    "codec": "int3",
    "order": "back",
    "budget_bytes": "8,600",
    "message_tokens": "4",
    "development_examples": 3,
    "donors": 2,
}


@pytest.mark.slow
def test_channels_are_chosen_once_and_budgets_are_kept(
    empty: Path, values, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_store(empty)
    run_milestone(m13, values(m13, **GIVEN, dry_run="true"))
    assert "channels are not chosen yet" in capsys.readouterr().out
    run_milestone(m13, values(m13, **GIVEN))
    said = capsys.readouterr().out
    assert "demo_facts, demo, within 600 bytes: best cache: " in said
    table = table_of("m13", "equal_bytes.csv")
    kinds = {"cache", "layers", "layers quantized", "letter", "logits"}
    kinds |= {"text", "text zstd", "text LM-coded"}
    assert set(table.loc[table["budget_bytes"] == 600, "kind"]) == kinds
    sent = table[table["budget_bytes"] > 0]
    assert (sent["wire_bytes_max"] <= sent["budget_bytes"]).all()
    assert (sent["unused_bytes_mean"] + sent["wire_bytes_mean"] == sent["budget_bytes"]).all()
    small = table[(table["kind"] == "cache") & (table["budget_bytes"] == 8)].iloc[0]
    alone = table[table["budget_bytes"] == 0].iloc[0]
    assert (sent["donors"] == 2).all() and alone["donors"] == 0
    assert small["sent_nothing_share"] == 1 and small["score"] == alone["score"]
    monkeypatch.setattr(equal_bytes, "evaluate", None)  # it is not asked again
    run_milestone(m13, values(m13, **GIVEN))
    again = capsys.readouterr().out
    assert "ways on" not in again and said.splitlines()[-1] in again


def test_what_needs_a_calibration_is_left_out_where_there_is_none(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(empty)
    run_milestone(m13, values(m13, **GIVEN | {"codec": "", "dry_run": "true"}))
    said = capsys.readouterr().out
    assert f"m13: left out: {', '.join(m13.CALIBRATED)}: codec turbo2.5 needs" in said
    assert "run `mlflow run . -e calibrate` first" in said
    with pytest.raises(LatentWireError, match="codec klt1 needs a calibration of pair demo"):
        run_milestone(m13, values(m13, **GIVEN | {"codec": "klt1"}))


@pytest.mark.slow
def test_calibrated_codecs_take_the_tokens_of_the_best_other(
    empty: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain ways by every selector first; of each budget and kind then the calibrated ones, by that
    selector that was best. Without plain ones every selector."""
    empty_store(empty)
    learnt = values(calibrate, dataset="demo_facts", calibration_examples=20)
    run_milestone(calibrate, learnt)
    asked, evaluate = [], equal_bytes.evaluate

    def watched(pair, conditions, *rest):
        asked.append((list(conditions), found := evaluate(pair, conditions, *rest)))
        return found

    monkeypatch.setattr(equal_bytes, "evaluate", watched)
    given = GIVEN | {"order": "front,back", "budget_bytes": "600", "donors": 1}
    run_milestone(m13, values(m13, **given | {"codec": "int3,turbo2,kvtc1"}))
    (plain, answers), (calibrated, _) = asked
    assert not any(each.channel and needs_calibration(each.channel.codec) for each in plain)
    best = max(
        (each for each in plain if each.channel and each.channel.order in ("front", "back")),
        key=lambda each: sum(r.value for r in answers[each]),  # of equals the first: alike in bytes
    )
    tried = {(each.channel.codec, each.channel.order) for each in calibrated}
    assert tried == {*((name, best.channel.order) for name in ("turbo2", "kvtc1"))} | {
        ("turbo2", "kvcomm")  # kvtc codes whole tokens
    }
    asked.clear()
    only = values(m13, **given | {"codec": "klt1"})
    run_milestone(m13, only)
    tried = {each.channel.order for each in asked[1][0]}
    assert tried == {"front", "back", "kvcomm"}
    table = table_of("m13", "equal_bytes.csv").set_index("kind")
    assert table.loc["cache", "condition"].startswith("klt1")
    assert table.loc["cache", "development_set"] == "demo_facts dev"
    session = open_session(only)
    session.calibrated_channel(equal_bytes.Channel("klt1"))
    held = session.kept.calibration
    assert held is not None and table.loc["cache", "known_bytes"] == held.bytes_for("klt1") > 0
    assert table.loc["letter", "known_bytes"] == 0


def test_an_oracle_is_no_message(values) -> None:
    with pytest.raises(LatentWireError, match="order=oracle_delta: must be one of"):
        values(m13, **GIVEN | {"order": "oracle_delta"})
