"""What an oracle is ahead of a selector by."""

import pytest

from latentwire.analysis.foresight import COLUMNS, Choice, foresight_table
from latentwire.analysis.stats import mcnemar_p, paired_outcomes


def right(letters: str) -> dict[str, bool]:
    return {str(n): letter == "1" for n, letter in enumerate(letters)}


def test_oracles_are_compared_with_selectors_at_equal_codec_and_length() -> None:
    few, many = right("1" * 5 + "0" * 15), right("1" * 15 + "0" * 5)
    choices = [
        Choice("int8", 0.5, None, "vnorm", 1000.0, few),
        Choice("int8", 0.5, None, "oracle_delta", 1010.0, many),
        Choice("int8", 0.5, None, "oracle_proj_vnorm", 1020.0, few),
        Choice("int8", 0.25, None, "vnorm", 500.0, few),
        Choice("int4", 0.5, None, "oracle_delta", 510.0, many),
        Choice("int8", 0.5, 700, "oracle_delta", 700.0, many),  # as many tokens as fit
        Choice("int8", 0.5, 900, "vnorm", 900.0, few),
    ]
    table = foresight_table("set", choices)
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table["selector"], table["oracle"], strict=True)) == [
        ("vnorm", "oracle_delta"),
        ("vnorm", "oracle_proj_vnorm"),
    ]
    first, second = table.to_dict("records")
    assert (first["gain"], first["examples"]) == (0.5, 20) and second["gain"] == 0
    assert first["p"] == pytest.approx(mcnemar_p(paired_outcomes(many, few)))
    assert 0 < first["gain_low"] < 0.5 < first["gain_high"]
    assert (first["p_holm"], second["p_holm"]) == (2 * first["p"], 1.0)
    assert (first["selector_wire_bytes_mean"], first["oracle_wire_bytes_mean"]) == (1000, 1010)


def test_without_an_oracle_there_is_no_row() -> None:
    table = foresight_table("set", [Choice("int8", 0.5, None, "vnorm", 1.0, right("10"))])
    assert table.empty and list(table.columns) == list(COLUMNS)
