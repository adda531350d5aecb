"""What the content of a message did is told by every column that there is for it, of the bundled
pair and of one that nobody trained."""

from pathlib import Path

import pytest
from in_process import run_milestone
from tests_support import empty_store, table_of

from latentwire.analysis.comparison_columns import BY_DONOR, BY_RECEIVER
from latentwire.controls.registry import CONTROLS, in_place_of_own
from latentwire.milestones import calibrate, m0

GIVEN = {"dataset": "demo_facts", "limit": 12, "chunk_size": 12, "donors": 2}
TESTED = ("pairing_gain", *BY_RECEIVER, *BY_DONOR, "calibration_error")
ENDS = ("", "_low", "_high", "_p", "_p_holm")


@pytest.mark.parametrize("pair", ["demo", "untrained:demo"])
def test_every_column_is_filled_for_the_whole_cache(empty: Path, values, pair: str) -> None:
    empty_store(empty)
    run_milestone(
        calibrate, values(calibrate, pair=pair, dataset="demo_facts", calibration_examples=20)
    )
    run_milestone(m0, values(m0, pair=pair, controls=",".join(CONTROLS), **GIVEN))
    row = table_of("m0", "conditions.csv").set_index("system").loc["c2c"]
    columns = [name.replace("pairing_gain_p", "pairing_p") for name in _named(TESTED)]
    columns += [f"{control}_{name}" for control in in_place_of_own() for name in ("accuracy",)]
    columns += ["own_rank_p", "bits_per_byte", "key_collisions", "deranged_other_length"]
    assert row[columns].notna().all(), row[columns][row[columns].isna()]
    assert (row["donors"], row["deranged_examples"], row["mean_examples"]) == (2, 12, 12)


def _named(estimates: tuple[str, ...]) -> list[str]:
    return [f"{name}{end}" for name in estimates for end in ENDS]
