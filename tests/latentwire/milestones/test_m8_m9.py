"""M8 and M9: every selector, and oracles beside a sender's choices."""

from pathlib import Path

import pandas as pd
import pytest
from in_process import run_milestone
from tests_support import empty_store, table_of

from latentwire.channel.oracles.registry import ORACLES
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.errors import LatentWireError
from latentwire.milestones import m2, m3, m8, m9

GIVEN = {"dataset": "demo_facts", "limit": 2, "chunk_size": 2}


def test_the_whole_cache_is_m2s(values) -> None:
    whole = m2.conditions(values(m2))
    wanted = m8.conditions(values(m8))
    assert set(whole) <= set(wanted)
    assert len(wanted) == len(set(wanted)) == 2 * 2 * (1 + 3 * len(SELECTORS))
    assert not {c.channel.order for c in wanted if c.channel} & set(ORACLES)
    assert set(m3.conditions(values(m3, keep_ratio="1.0,0.5"))) <= set(wanted)  # int8's are M3's
    assert set(m8.conditions(values(m8, kv_bits="8"))) & set(m9.conditions(values(m9)))


def test_m8_goes_on_from_m2_and_m9_says_what_an_oracle_is_ahead_by(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(empty)
    run_milestone(m2, values(m2, kv_bits="8", **GIVEN))
    few = GIVEN | {"keep_ratio": "1.0,0.5"}
    run_milestone(m8, values(m8, kv_bits="8", order="vnorm_by_layer,kvcomm,snapkv", **few))
    assert "m8: 8 conditions, 4 of 16 answers are finished" in capsys.readouterr().out
    run_milestone(m9, values(m9, order="vnorm_by_layer,oracle_delta,oracle_proj_vnorm", **few))
    printed = capsys.readouterr().out
    assert "m9: 8 conditions, 8 of 16 answers are finished" in printed
    table = table_of("m9", "oracle.csv")
    assert list(table["oracle"]) == ["oracle_delta", "oracle_proj_vnorm"]
    assert {*table["selector"]} == {"vnorm_by_layer"} and {*table["examples"]} == {2}
    ratio = table["oracle_wire_bytes_mean"] / table["selector_wire_bytes_mean"]
    assert ((ratio > 0.97) & (ratio < 1.03)).all()
    curve = table_of("m9", "conditions.csv")
    scores = curve.set_index("order")["score"]
    for row in table.itertuples():
        assert row.gain == pytest.approx(scores[row.oracle] - scores[row.selector])
        assert row.gain_low <= row.gain <= row.gain_high
    assert "oracle_delta" in printed
    within = GIVEN | {"order": "vnorm,oracle_delta", "budget_bytes": "4000,9000"}
    run_milestone(m9, values(m9, keep_ratio="1.0", controls="matched", **within))
    table, curve = table_of("m9", "oracle.csv"), table_of("m9", "conditions.csv")
    assert [*table["budget_bytes"]] == [4000, 9000]
    sent = curve.set_index(["order", "budget_bytes"])["wire_bytes_mean"]
    for row in table.itertuples():
        assert row.oracle_wire_bytes_mean == sent["oracle_delta", row.budget_bytes]
        assert row.selector_wire_bytes_mean == sent["vnorm", row.budget_bytes]


def test_where_messages_are_inserted_layers_send_the_same_tokens(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(empty)
    given = {"pair": "demo_self", "dataset": "demo_private", "limit": 1, "keep_ratio": "0.5"}
    given |= {"kv_bits": "8", "controls": "matched"}
    run_milestone(m8, values(m8, order="vnorm,vnorm_by_layer,kvcomm", **given))
    printed = capsys.readouterr().out
    words = "so all layers must send the same tokens; take another order"
    assert "m8: left out: vnorm_by_layer, kvcomm: the interface puts what arrived" in printed
    assert words in printed
    curve: pd.DataFrame = table_of("m8", "conditions.csv")
    assert [*curve["order"]] == ["vnorm"]
    for order, told in (("kvcomm", words), ("oracle_delta", "an oracle asks what tokens do")):
        for milestone in (m3, m8):
            with pytest.raises(LatentWireError, match=f"order={order}: .*{told}"):
                run_milestone(milestone, values(milestone, order=order, **given))
