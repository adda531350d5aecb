import pytest

from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError
from latentwire.milestones import m2, m3
from latentwire.parameters import MARGIN_POINTS, STUDY, Values, checked

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
        ("codec", "int5", "codec 'int5' is unknown; there are bf16"),
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


@pytest.mark.parametrize("text", ["0", "-1", "100", "nan", "inf", "one", ""])
def test_a_margin_is_a_number_of_percentage_points(text: str) -> None:
    assert checked([MARGIN_POINTS], {"margin_points": "0.5"}) == {"margin_points": 0.5}
    with pytest.raises(LatentWireError, match=r"margin_points=.*: must be a number of percentage"):
        checked([MARGIN_POINTS], {"margin_points": text})
