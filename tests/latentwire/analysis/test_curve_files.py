import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from latentwire.analysis import curve_files
from latentwire.analysis.curve import ConditionResult, build_curve, read_csv, with_hashes, write_csv
from latentwire.analysis.curve_files import (
    drawings,
    figures_from_csv,
    write_budget_curves,
    write_figures,
    write_pictures,
)
from latentwire.analysis.pictures import ENDINGS
from latentwire.cli import main
from latentwire.errors import LatentWireError

Make = Callable[..., ConditionResult]


def curve(condition: Make, **changes: object) -> pd.DataFrame:
    def one(letters: str, **where: object) -> ConditionResult:
        result = condition(letters, **{**where, **changes})
        records = tuple(
            type(record)(**{**vars(record), "elements": 1000}) for record in result.records
        )
        return ConditionResult(**{**vars(result), "records": records})

    results = [one("ABCD" * 10, system="receiver")]
    for codec, size, ratio, order in (
        ("bf16", 16_000, 1.0, "front"),
        ("int8", 8_000, 1.0, "front"),
        ("int8", 4_000, 0.5, "front"),
        ("int8", 4_000, 0.5, "back"),
        ("int4", 4_000, 1.0, "front"),
    ):
        where = {"codec": codec, "keep_ratio": ratio, "order": order, "wire_bytes": size}
        results += [one("AABC" * 10, **where), one("ABCD" * 10, control="deranged", **where)]
    return build_curve(results)


def test_the_csv_alone_gives_the_same_files_byte_for_byte(condition: Make, tmp_path: Path) -> None:
    frame = with_hashes(
        curve(condition), {("demo", "local"): "ab" * 32}, {("demo", "set", "local"): "cd" * 32}
    )
    written = write_figures(frame, tmp_path / "first", drawings(frame))
    assert [path.name for path in written] == [
        "budget_curve.tex",
        *(f"budget_curve_set{ending}" for ending in ENDINGS),
        *(f"codec_rate_set{ending}" for ending in ENDINGS),
        *(f"bits_length_set{ending}" for ending in ENDINGS),
    ]
    path = tmp_path / "budget_curve.csv"
    write_csv(frame, path)
    assert main(["figures", str(path), "--output-dir", str(tmp_path / "second")]) == 0
    for path in written:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    # The comparison can fail: another number is another picture.
    changed = frame.assign(score=frame["score"] / 2)
    for path in write_figures(changed, tmp_path / "third", drawings(changed)):
        assert path.read_bytes() != (tmp_path / "first" / path.name).read_bytes(), path.name


def test_a_page_shows_the_pictures_that_were_drawn_for_the_files(
    condition: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = curve(condition)
    (alone,) = write_budget_curves(frame, tmp_path)
    size = Image.open(alone).size
    times: list[object] = []
    draw = curve_files.draw_budget_curve

    def counted(*asked: Any, **more: Any) -> Any:
        times.append(asked)
        return draw(*asked, **more)

    monkeypatch.setattr(curve_files, "draw_budget_curve", counted)
    for name in ("files", "pages"):
        (tmp_path / name).mkdir()
    write_pictures(drawings(frame), tmp_path / "files", tmp_path / "pages")
    assert [path.name for path in (tmp_path / "pages").iterdir()] == [alone.name]
    assert Image.open(tmp_path / "pages" / alone.name).size == size and len(times) == 1
    assert len([*(tmp_path / "files").iterdir()]) == 3 * len(ENDINGS)


def test_bad_input_is_one_sentence_and_writes_nothing(
    condition: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    bad = tmp_path / "bad.csv"
    bad.write_text("pair,dataset\ndemo,set\n")
    assert main(["figures", str(bad), "--output-dir", str(out)]) == 2
    assert "bad.csv, line 1: not a budget curve" in capsys.readouterr().err
    assert main(["figures", str(tmp_path / "none.csv"), "--output-dir", str(out)]) == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err
    write_csv(build_curve([condition("AB", system="receiver")]), bad)
    with pytest.raises(LatentWireError, match="no C2C point"):
        figures_from_csv(bad, out)
    assert not out.exists()


@pytest.mark.usefixtures("blank")  # of pictures, their names alone
def test_file_names_stay_in_the_folder(condition: Make, tmp_path: Path) -> None:
    one = curve(condition, pair="../../etc/pass wd")
    both = pd.concat([one, curve(condition)], ignore_index=True)
    names = {path.name for path in write_figures(both, tmp_path / "out", drawings(both))}
    assert any(name.startswith("budget_curve_set_.._.._etc_pass_wd-") for name in names)
    assert "budget_curve_set_demo.png" in names
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("blank")  # of pictures, their names alone
def test_a_set_without_a_c2c_point_is_passed_over(condition: Make, tmp_path: Path) -> None:
    frame = build_curve(
        [condition("AB", dataset="begun", system="receiver"), condition("AB", dataset="run")]
    )
    names = [path.name for path in write_figures(frame, tmp_path, drawings(frame))]
    pictures = [f"budget_curve_run{ending}" for ending in ENDINGS]
    assert names == ["budget_curve.tex", *pictures]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("accuracy", "inf", "accuracy is inf, not from 0 to 1"),
        ("accuracy_low", "-3", "accuracy_low is -3, not from 0 to 1"),
        ("wire_bytes_mean", "-1", "wire_bytes_mean is -1, not from 0 to 1e+18"),
        ("wire_bytes_mean", "1e308", "wire_bytes_mean is 1e+308"),
        ("wire_bytes_mean", "inf", "wire_bytes_mean is inf"),
        ("pairing_gain", "7", "pairing_gain is 7, not from -1 to 1"),
        ("keep_ratio", "", "keep_ratio of c2c is empty"),
        ("system", "rumour", "system is 'rumour', not one of"),
        ("examples", "many", "examples is 'many', not a whole number"),
        ("pair", "", "pair is empty"),
    ],
)
def test_values_that_no_study_yields_are_one_sentence(
    condition: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, value: str,
    words: str,
) -> None:  # fmt: skip
    path = tmp_path / "curve.csv"
    write_csv(build_curve([condition("AABC")]), path)
    head, row = csv.reader(path.read_text().splitlines())
    row[head.index(column)] = value
    path.write_text(f"{','.join(head)}\n{','.join(row)}\n")
    assert main(["figures", str(path), "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"curve.csv, line 2: not a budget curve: {words}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_of_an_older_version_draws(condition: Make, tmp_path: Path) -> None:
    frame = build_curve([condition("AABC" * 2), condition("AB", codec="int4", total=8)])
    later = ["examples_total", "complete", "deranged_examples", "zero_examples", "non_inferior"]
    path = tmp_path / "curve.csv"
    write_csv(frame, path)
    old = read_csv(path).drop(columns=later).to_csv(index=False)
    path.write_text("\ufeff" + old, encoding="utf-8")  # as a spreadsheet saves it
    read = read_csv(path)
    assert read["examples_total"].tolist() == [8, 8]
    assert read["complete"].tolist() == [True, False]
    assert len(figures_from_csv(path, tmp_path / "out")) == 4


def test_a_folder_that_is_a_file_is_said(
    condition: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "curve.csv"
    write_csv(build_curve([condition("AABC")]), path)
    assert main(["figures", str(path), "--output-dir", str(path)]) == 2
    assert "curve.csv is not a folder: name another place to write to" in capsys.readouterr().err
