import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nasty_names import NASTY

from latentwire.analysis.csv_files import csv_text, read_rows, require_between, write_csv
from latentwire.errors import LatentWireError

KINDS = {"name": "string", "value": "float64", "count": "Int64", "done": "bool"}
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'=+-@\t\r\n,\""))


def table(name: str, value: float = -0.5) -> pd.DataFrame:
    return pd.DataFrame({"name": [name], "value": [value], "count": [3], "done": [True]})


def read(path: Path) -> pd.DataFrame:
    return read_rows(path, "a table", KINDS, ["name", "value"], lambda row: None)


# No file that a name comes from may hold NUL.
@given((texts.filter(bool) | st.sampled_from(NASTY)).filter(lambda name: "\0" not in name))
def test_no_cell_is_a_formula_and_names_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "one.csv"
    write_csv(table(name), path)
    (_, row) = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
    assert row[0][0] not in "=+-@\t\r"
    assert row[1:] == ["-0.5", "3", "True"]
    assert read(path)["name"].tolist() == [name]


def test_numbers_and_missing_values_stay() -> None:
    frame = pd.DataFrame(
        {"value": [-1.5, math.nan], "name": pd.array([None, "-x"], dtype="string")}
    )
    assert csv_text(frame) == "value,name\n-1.5,\n,'-x\n"


def test_a_byte_order_mark_other_columns_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffother,name,value,done\r\nx,demo,1,TRUE\r\n\r\n".encode())
    assert read(path).to_dict("records") == [{"name": "demo", "value": 1.0, "done": True}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "line 1: not a table: it has no column name, value"),
        (b"name\nx\n", "it has no column value"),
        (b"name,value,name\n", "it has a column twice"),
        (b"name,value\nx,1\nx,much\n", "line 3: not a table: value is 'much', not a number"),
        (b"name,value\nx\n", "1 cells under 2 columns"),
        (b"name,value,count\nx,1,1.5\n", "count is '1.5', not a whole number"),
        (b"name,value,count\nx,1,-1\n", "count is -1, which is no count"),
        (b"name,value,count\nx,1,99999999999999999999\n", "which is no count"),
        (b"name,value,done\nx,1,perhaps\n", "done is 'perhaps', not True or False"),
        (b'name,value\n"x,1\n', "unexpected end of data"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text)
    with pytest.raises(LatentWireError) as raised:
        read(path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_limits_leave_room_for_rounding() -> None:
    require_between(
        {"a": 1 + 1e-12, "b": math.nan, "c": None}, {"a": (0, 1), "b": (0, 1), "c": (0, 1)}
    )
    for value in (1.1, -0.1, math.inf):
        with pytest.raises(ValueError, match="not from 0 to 1"):
            require_between({"a": value}, {"a": (0, 1)})
