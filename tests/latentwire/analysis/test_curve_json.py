"""The lines of a budget curve as CompressAI's results have them."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.curve_json import lines, write_lines
from latentwire.strict_json import parse_json

Make = Callable[..., ConditionResult]


@pytest.fixture(scope="module")
def frame(condition: Make) -> pd.DataFrame:
    text = {"system": "text", "codec": "utf8"}
    return build_curve(
        [
            condition("ABAB", system="receiver"),
            condition("AAAB", codec="bf16", wire_bytes=16_000),
            condition("AAAB", codec="int8", wire_bytes=8_000),
            condition("BBAB", codec="int8", wire_bytes=8_000, control="deranged", donors="BBBB"),
            condition("AABB", codec="int8", keep_ratio=0.5, wire_bytes=4_000),
            condition("ABBB", codec="int8", keep_ratio=0.5, order="back", wire_bytes=4_000),
            condition("AAB-", codec="int4", wire_bytes=4_000),
            condition("AA", codec="int2", wire_bytes=2_000, total=4),  # a trial run
            condition("AABB", codec="klt1", wire_bytes=900, calibration="a" * 64, kv_bits=1),
            condition("AAAB", codec="klt2", wire_bytes=1_900, calibration="a" * 64, kv_bits=2),
            condition("AAAA", codec="klt2", wire_bytes=1_900, calibration="b" * 64, kv_bits=2),
            condition("AAAA", codec="klt3", wire_bytes=2_900, calibration="b" * 64, kv_bits=3),
            condition("ABBB", **text, message_tokens=8, wire_bytes=30),
            condition("AABB", **text, message_tokens=32, wire_bytes=90),
        ]
    )


def test_a_line_is_what_one_axis_alone_tells_apart(frame: pd.DataFrame) -> None:
    told = {
        (line.axis, " ".join(line.fixed)): [(row["codec"], row["keep_ratio"]) for row in line.rows]
        for line in lines(frame[frame["system"] == "c2c"])
    }
    assert told == {
        ("keep_ratio", "int8 front"): [("int8", 0.5), ("int8", 1.0)],
        ("keep_ratio", "int8 back"): [("int8", 0.5), ("int8", 1.0)],
        ("codec", "int"): [("int4", 1.0), ("int8", 1.0)],
        ("codec", "klt aaaaaaaa"): [("klt1", 1.0), ("klt2", 1.0)],
        ("codec", "klt bbbbbbbb"): [("klt2", 1.0), ("klt3", 1.0)],
    }
    (text,) = lines(frame[frame["system"] == "text"])
    assert (text.axis, text.fixed) == ("message_tokens", ("text", "utf8"))


def test_within_budgets_each_order_has_a_line_of_its_own(condition: Make) -> None:
    told = [
        condition("AAAB", codec="int8", order=order, budget_bytes=most, wire_bytes=most - 9)
        for order in ("front", "back")
        for most in (700, 900)
    ]
    told.append(condition("AAAA", codec="int8", wire_bytes=8_000))
    told.append(condition("AABA", codec="int8", keep_ratio=0.5, wire_bytes=4_000))
    found = {
        (line.axis, " ".join(line.fixed)): [
            (row["order"], row["budget_bytes"]) for row in line.rows
        ]
        for line in lines(build_curve(told))
        if line.axis != "keep_ratio"
    }
    assert found == {
        ("budget_bytes", f"int8 1 {order}"): [(order, 700), (order, 900)]
        for order in ("front", "back")
    }


def test_each_is_a_file_of_strict_json(frame: pd.DataFrame, tmp_path: Path) -> None:
    paths = write_lines(frame, tmp_path)
    assert {path.name for path in paths} == {
        "curve_set_int8_front.json",
        "curve_set_int8_back.json",
        "curve_set_int.json",
        "curve_set_klt_aaaaaaaa.json",
        "curve_set_klt_bbbbbbbb.json",
        "curve_set_text_utf8.json",
    }
    assert set(tmp_path.iterdir()) == set(paths)
    content = parse_json((tmp_path / "curve_set_int8_front.json").read_text(encoding="utf-8"))
    assert list(content) == ["name", "description", "results"]
    assert content["name"] == "int8 front"
    results = content["results"]
    # What `compressai.utils.plot` takes: lists under names, one of them bpp, all as long.
    assert {len(values) for values in results.values()} == {2}
    assert results["bpp"] == [8 * 4001.5, 8 * 8001.5] and results["score"] == [0.5, 0.75]
    assert results["pairing_gain"] == [None, 0.5]  # the control was not run of the short one
    assert results["condition"] == ["int8 0.5 front", "int8"]


def test_pairs_and_sources_have_files_of_their_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    caches = frame[frame["codec"].isin(["int8", "int4"]) & (frame["keep_ratio"] == 1)]
    both = pd.concat([caches, caches.assign(source="published"), caches.assign(pair="a/b")])
    names = sorted(path.name for path in write_lines(both, tmp_path))
    assert names[1:] == ["curve_set_demo_int.json", "curve_set_demo_int_published.json"]
    assert names[0].startswith("curve_set_a_b_int-") and len(names) == 3
    about = json.loads((tmp_path / names[2]).read_text(encoding="utf-8"))["description"]
    assert about.startswith("set, demo, published; a point a codec; score: accuracy; bpp: bits a")
