from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes, write_csv
from latentwire.analysis.curve_files import figures_from_csv, write_figures
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
    written = write_figures(frame, tmp_path / "first")
    assert [path.name for path in written] == [
        "budget_curve.tex",
        *("budget_curve_set.png", "budget_curve_set.svg"),
        *("codec_rate_set.png", "codec_rate_set.svg"),
        *("bits_length_set.png", "bits_length_set.svg"),
    ]
    csv = tmp_path / "budget_curve.csv"
    write_csv(frame, csv)
    assert main(["figures", str(csv), "--output-dir", str(tmp_path / "second")]) == 0
    for path in written:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    # The comparison can fail: another number is another picture.
    changed = frame.assign(accuracy=frame["accuracy"] / 2)
    for path in write_figures(changed, tmp_path / "third"):
        assert path.read_bytes() != (tmp_path / "first" / path.name).read_bytes(), path.name


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


def test_file_names_stay_in_the_folder(condition: Make, tmp_path: Path) -> None:
    one = curve(condition, pair="../../etc/pass wd")
    both = pd.concat([one, curve(condition)], ignore_index=True)
    names = {path.name for path in write_figures(both, tmp_path / "out")}
    assert "budget_curve_set_.._.._etc_pass_wd.png" in names
    assert "budget_curve_set_demo.png" in names
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_set_without_a_c2c_point_is_passed_over(condition: Make, tmp_path: Path) -> None:
    frame = build_curve(
        [condition("AB", dataset="begun", system="receiver"), condition("AB", dataset="run")]
    )
    names = [path.name for path in write_figures(frame, tmp_path)]
    assert names == ["budget_curve.tex", "budget_curve_run.png", "budget_curve_run.svg"]
