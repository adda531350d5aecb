"""M7, and every other milestone on a pair whose models have a tokenizer each."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from in_process import run_milestone
from tests_support import empty_store, table_of
from tiny import write_pair
from two_tokenizers import second_tokenizer

from c2c.paired_prompts import ALIGNMENTS
from latentwire.errors import LatentWireError
from latentwire.milestones import m0, m1, m7, train
from latentwire.session.preflight_state import open_session

GIVEN = {"dataset": "demo_facts", "limit": 2, "chunk_size": 2}


def test_one_tokenizer_has_alignment_off_beside_the_others(
    empty: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(empty)
    run_milestone(m7, values(m7, **GIVEN))
    table = table_of("m7", "alignment.csv").set_index("alignment")
    assert list(table.index) == ["off", *ALIGNMENTS]
    assert {*table["one_to_one_share"]} == {1.0} and {*table["examples"]} == {2}
    whole, *messages = table["wire_bytes_mean"]
    assert len({*messages}) == 1 and messages[0] < whole  # templates are not sent
    assert {*table["pairing_gain"].notna()} == {True}
    capsys.readouterr()
    run_milestone(m7, values(m7, **GIVEN))
    assert "m7: 8 conditions, 16 of 16 answers are finished" in capsys.readouterr().out
    pd.testing.assert_frame_equal(
        table_of("m7", "alignment.csv").set_index("alignment"), table, check_exact=True
    )
    with pytest.raises(LatentWireError, match="alignment=last: must be one of"):
        values(m7, alignment="last")


@pytest.fixture
def two(empty: Path) -> Path:
    """The file of a pair with two tokenizers, and an empty store."""
    empty_store(empty)
    path = write_pair(empty / "pair")
    second_tokenizer().save_pretrained(path.parent / "sharer")
    content = yaml.safe_load(path.read_text()) | {"shared_tokenizer": False, "alignment": "first"}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_a_pair_of_two_tokenizers_runs_as_any_other(
    empty: Path, two: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    given = GIVEN | {"pair": two, "limit": 1}
    run_milestone(m0, values(m0, controls="matched", **given))
    run_milestone(m7, values(m7, **given | {"alignment": "off,first,offsets"}))
    run_milestone(m1, values(m1, codec="int8", sample=1, **given))
    printed = capsys.readouterr().out
    assert "m7: alignment off is left out" in printed
    assert "e+0" not in printed.split("same token")[1] and " kB " in printed  # M1's bytes
    assert "m7: 4 conditions, 1 of 4 answers are finished" in printed  # M0's is of `first`
    table = table_of("m7", "alignment.csv").set_index("alignment")
    assert list(table.index) == ["first", "offsets"]
    assert table.loc["first", "one_to_one_share"] == 1 > table.loc["offsets", "one_to_one_share"]
    assert table.loc["offsets", "sent_tokens_mean"] < table.loc["offsets", "tokens_mean"]
    share = table["donor_other_tokens_share"]
    assert share["first"] == 0 <= share["offsets"] <= 1
    assert table.loc["offsets", "wire_bytes_mean"] < table.loc["first", "wire_bytes_mean"]
    curve = table_of("m7", "conditions.csv")
    assert [*curve["alignment"]] == ["first", "offsets"] and {*curve["unanswered"]} == {0}
    assert {*table_of("m0", "conditions.csv")["examples"]} == {1}
    codecs = table_of("m1", "codecs.csv")
    assert [*codecs["codec"]] == ["int8"] and (codecs["key_error_mean"] < 0.05).all()


def test_what_two_tokenizers_cannot_do_is_one_sentence(two: Path, values) -> None:
    content = yaml.safe_load(two.read_text())

    def refused(words: str, given: object) -> None:
        with pytest.raises(LatentWireError, match=words) as error:
            open_session(given)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)

    refused(
        "alignment=first: the models of pair demo have one tokenizer, so nothing is to be aligned",
        values(train, data="demo_facts", dataset="demo_facts", alignment="first"),
    )
    for change, words in (
        ({"alignment": "last"}, "'alignment' must be one of first, longest, offsets"),
        ({"shared_tokenizer": True}, "'alignment' is for two tokenizers: leave it out"),
    ):
        two.write_text(yaml.safe_dump(content | change))
        refused(words, values(m0, pair=two, **GIVEN))
    del content["alignment"]
    two.write_text(yaml.safe_dump(content | {"shared_tokenizer": True}))
    refused("the tokenizers differ, say 'shared_tokenizer: false'", values(m0, pair=two, **GIVEN))
