"""M10 on the bundled pair: budgets are kept, tables are logged, and what is finished stays."""

from pathlib import Path

import pytest
from in_process import run_milestone
from tests_support import empty_store, table_of

from latentwire.analysis.reproduction.published_budgets import study_table
from latentwire.errors import LatentWireError
from latentwire.milestones import m2, m3, m9, m10

GIVEN = {"dataset": "demo_facts", "limit": 3, "chunk_size": 3}


def test_budgets_are_kept_and_finished_answers_stay(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(empty)
    given = GIVEN | {"budget_ratio": "1/16,1/4", "order": "vnorm", "controls": "matched"}
    run_milestone(m10, values(m10, **given))
    table = table_of("m10", "budgets.csv")
    assert len(table) == 8 and {*table["examples"]} == {3} and {*table["unanswered"]} == {0}
    run_milestone(m2, values(m2, **GIVEN, codec="bf16", controls="matched"))
    whole = table_of("m2", "conditions.csv").set_index("codec").loc["bf16", "wire_bytes_mean"]
    total = table["wire_bytes_mean"] + table["unused_bytes_mean"]
    assert (total <= table["budget_ratio"] * whole).all()
    assert (total >= table["budget_ratio"] * whole - 1).all()  # rounded down
    both = table.set_index(["budget_ratio", "codec"])
    one, plain = (both.loc[(0.25, codec)] for codec in ("tokens:int8", "int8"))
    assert one["wire_bytes_mean"] - plain["wire_bytes_mean"] in (0, 2)
    # The bundled receiver counts 2 x 4 heads x 16 channels x 2 bytes; int8 takes 2 x 2 x 32.
    assert table["study_label"].tolist() == table["budget_ratio"].tolist()
    study = table_of("m10", "study.csv").drop_duplicates("label")
    assert list(study["label"]) == ["1/32", "1/16", "1/8", "1/4"]
    assert list(study["share_of_16_bits"]) == [1 / 8, 1 / 4, 1 / 2, 1 / 2]
    capsys.readouterr()
    run_milestone(m10, values(m10, **given))
    assert "m10: 8 conditions, 24 of 24 answers are finished" in capsys.readouterr().out
    assert study_table()["accuracy"].between(0.49, 0.58).all()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"budget_ratio": "1/0"}, "budget_ratio=1/0: must be a share above 0"),
        ({"budget_ratio": "2"}, "must be a share above 0 and up to 1"),
        ({"budget_bytes": "0"}, "must be a whole number of at least 1"),
        ({"codec": "tokens:int8:int9"}, "int9"),
    ],
)
def test_wrong_budgets_are_refused_at_once(values, given: dict[str, str], reason: str) -> None:
    with pytest.raises(LatentWireError, match=reason):
        values(m10, **given)


def test_an_order_by_layer_has_no_bits_by_token(empty: Path, values) -> None:
    empty_store(empty)
    with pytest.raises(LatentWireError, match="order=vnorm_by_layer: it chooses by layer"):
        run_milestone(m10, values(m10, **GIVEN, order="vnorm_by_layer"))
    for milestone, order in ((m3, "kvcomm"), (m9, "oracle_delta")):
        given = GIVEN | {"order": order, "codec": "tokens:int8", "budget_bytes": "900"}
        with pytest.raises(LatentWireError, match=f"order={order}: it chooses by layer, and tok"):
            run_milestone(milestone, values(milestone, **given))
