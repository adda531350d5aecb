"""M13 on the bundled pair: chosen once on other questions, every message within its budget."""

from pathlib import Path

import pytest
from in_process import run_milestone
from tests_support import empty_store, table_of

from latentwire.errors import LatentWireError
from latentwire.milestones import equal_bytes, m13

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


def test_an_oracle_is_no_message(values) -> None:
    with pytest.raises(LatentWireError, match="order=oracle_delta: must be one of"):
        values(m13, **GIVEN | {"order": "oracle_delta"})
