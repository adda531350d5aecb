from pathlib import Path

import pytest

from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError
from latentwire.milestones import m2, m3, m5, published, train
from latentwire.parameters import (
    CODEC,
    MARGIN_POINTS,
    ORDER,
    PUBLISHED_FILE,
    STUDY,
    Values,
    checked,
    parser,
)

DEFAULTS = {parameter.name: parameter.default for parameter in (*m2.PARAMETERS, *m3.PARAMETERS)}


def values(**texts: str) -> Values:
    return checked(m3.PARAMETERS, DEFAULTS | texts)


def test_defaults_are_valid() -> None:
    parsed = checked(m2.PARAMETERS, {p.name: p.default for p in m2.PARAMETERS})
    assert parsed["kv_bits"] == (8, 4)
    assert parsed["codec"] is None
    assert parsed["controls"] == ("matched", "deranged")
    assert parsed["dry_run"] is False
    assert {parameter.name for parameter in STUDY} < set(parsed)


def test_lists_are_parsed() -> None:
    parsed = values(keep_ratio="1, 0.5", order="back", kv_bits="3", dataset="arc_c")
    assert parsed["keep_ratio"] == (1.0, 0.5)
    assert parsed["order"] == ("back",)
    assert parsed["kv_bits"] == (3,)
    assert parsed["dataset"] == ("arc_c",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("kv_bits", "abc", "kv_bits=abc: must be one of 2, 3, 4, 8, 16 bits"),
        ("kv_bits", "5", "must be one of"),
        ("kv_bits", "", "at least one value"),
        ("kv_bits", "4,4", "names a value twice"),
        ("keep_ratio", "1.5", "keep_ratio=1.5: must be a number from 0 to 1"),
        ("keep_ratio", "nan", "must be a number from 0 to 1"),
        ("order", "ends", "must be one of front, back"),
        (
            "codec",
            "int9",
            r"codec 'int9' is unknown \(did you mean int., int. or int.\?\); all \d+: l",
        ),
        ("codec", "kvi4,int8", r"codec 'kvi4' is unknown \(did you mean kivi4, "),
        ("calibration", "/no/such/file", "must be a file that exists, or auto"),
        ("dataset", "mmlu_pro", "must be one of openbookqa"),
        ("limit", "-1", "must be a whole number of at least 0"),
        ("limit", "1e3", "must be a whole number"),
        ("chunk_size", "0", "at least 1"),
        ("dry_run", "yes", "must be true or false"),
        ("preflight", "full", "must be one of fast, skip"),
        ("device", "tpu", "must be auto, cpu, cuda"),
        ("dtype", "int8", "must be one of auto, float32"),
        ("data_dir", "/no/such/folder", "must be a folder that exists"),
        ("controls", "matched,shuffled", f"must be one of {', '.join(CONTROLS)}"),
    ],
)
def test_a_wrong_value_is_named(name: str, text: str, message: str) -> None:
    with pytest.raises(LatentWireError, match=message) as error:
        values(**{name: text})
    assert str(error.value).startswith(f"{name}={text}")


def test_a_wrong_pair_is_named_before_what_is_missing_of_a_training() -> None:
    for milestone in (train, m5):
        given = {each.name: each.default for each in milestone.PARAMETERS} | {"pair": "nobody"}
        with pytest.raises(LatentWireError, match="unknown pair 'nobody'"):
            checked(milestone.PARAMETERS, given)
        with pytest.raises(LatentWireError, match="data=: name question sets"):
            checked(milestone.PARAMETERS, given | {"pair": "demo"})


@pytest.mark.parametrize("text", ["0", "-1", "100", "nan", "inf", "one", ""])
def test_a_margin_is_a_number_of_percentage_points(text: str) -> None:
    assert checked([MARGIN_POINTS], {"margin_points": "0.5"}) == {"margin_points": 0.5}
    with pytest.raises(LatentWireError, match=r"margin_points=.*: must be a number of percentage"):
        checked([MARGIN_POINTS], {"margin_points": text})


def test_a_folder_is_known_to_hold_the_file_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=r"must be the folder that holds published_per_q"):
        checked(published.PARAMETERS, {"reference_dir": str(tmp_path)})
    (tmp_path / PUBLISHED_FILE).touch()
    assert checked(published.PARAMETERS, {"reference_dir": str(tmp_path)}) == {
        "reference_dir": tmp_path
    }


def test_help_texts_name_choices_once_and_long_lists_never() -> None:
    help_text = " ".join(parser(m2.PARAMETERS, "", "m2").format_help().split())
    assert f"which caches are sent; choices: {', '.join(CONTROLS)} (default" in help_text
    assert "choices: front" not in help_text  # its help explains each
    assert "klt2.25" in CODEC.choices and "klt2.25" not in help_text
    assert set(ORDER.choices) >= {"front", "back"}


@pytest.mark.parametrize("typed", [["--kv_bits", "4"], ["--kv-bits=4"], ["--kv_bits=4"]])
def test_options_take_both_spellings(typed: list[str]) -> None:
    assert parser(m2.PARAMETERS, "", "m2").parse_args(typed).kv_bits == "4"


def test_values_keep_their_underscores() -> None:
    given = parser(m2.PARAMETERS, "", "m2").parse_args(["--codec=int4_token", "--dataset", "arc_c"])
    assert (given.codec, given.dataset) == ("int4_token", "arc_c")


def test_an_unknown_option_is_refused_with_the_one_that_may_be_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser(m2.PARAMETERS, "", "m2").parse_args(["--kvbits", "4"])
    assert "arguments: --kvbits 4 (did you mean --kv-bits?)\n" in capsys.readouterr().err
