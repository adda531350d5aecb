"""The study's figures are those that were published; a wrong file is named."""

from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.reproduction.compare import compare
from latentwire.analysis.reproduction.published_accuracies import (
    LATENTWIRE_2026_02,
    load_study,
    point,
)
from latentwire.analysis.reproduction.published_budgets import study_table
from latentwire.analysis.reproduction.report import byte_count_note, render
from latentwire.errors import LatentWireError
from latentwire.parameters import share

GOOD = LATENTWIRE_2026_02.read_text(encoding="utf-8")


def test_the_figures_are_the_published_ones(shared_dir: Path) -> None:
    table = pd.read_csv(shared_dir / "reference" / "published_results.csv")
    table = table[
        (table["source"] == "latentwire-2026-02") & table["milestone"].isin(["M0", "M2", "M3"])
    ]
    expected = {
        (point(r.dataset, r.scheme.replace("fp16", "bf16"), r.cache_proportion, r.order_mode)): (
            r.n,
            r.accuracy,
        )
        for r in table.itertuples()
    }
    found = load_study(LATENTWIRE_2026_02).figures
    assert {f.point: (f.questions, f.accuracy) for f in found} == expected
    assert len(found) == 22


def test_the_accuracies_of_fusers_trained_through_a_codec_are_the_published_ones(
    shared_dir: Path,
) -> None:
    table = pd.read_csv(shared_dir / "reference" / "published_results.csv")
    table = table[(table["source"] == "latentwire-2026-02") & (table["milestone"] == "M5")]
    found = {(f.dataset, f.questions, f.accuracy) for f in load_study(LATENTWIRE_2026_02).trained}
    assert found == set(table[["dataset", "n", "accuracy"]].itertuples(index=False, name=None))
    assert len(found) == 2


def test_accuracies_by_choice_of_tokens_are_the_published_ones(shared_dir: Path) -> None:
    table = pd.read_csv(shared_dir / "reference" / "published_results.csv")
    names = {
        "vnorm_by_layer": "vnorm_topk",
        "oracle_proj_vnorm": "proj_vnorm_topk",
        "oracle_delta": "delta_proj_vnorm_topk",
    }
    told: dict[tuple[str, str, str, float], list[float]] = {}
    for row in table[table["milestone"].isin(["M9", "M8"])].itertuples():
        codec, mode, share = str(row.setting).split()
        key = (str(row.dataset), codec, mode, float(share[2:]))
        told.setdefault(key, []).append(float(row.accuracy))  # of M9 last
    selected = load_study(LATENTWIRE_2026_02).selected
    for figure in selected:
        key = (figure.dataset, figure.codec, names[figure.order], figure.keep_ratio)
        assert told.pop(key)[-1] == figure.accuracy
    assert {mode for _, _, mode, share in told if share < 1} == {"front", "random", "knorm_topk"}
    assert len(selected) == 21


def test_accuracies_of_protected_layers_are_the_published_ones(shared_dir: Path) -> None:
    table = pd.read_csv(shared_dir / "reference" / "published_results.csv")
    told = table[table["milestone"] == "M6"]
    expected = {
        (
            row.dataset,
            row.n,
            f"int8/{row.setting.split()[2]}:bf16".replace("layers", ""),
            row.accuracy,
        )
        for row in told.itertuples()
    }
    protected = load_study(LATENTWIRE_2026_02).protected
    assert {(f.dataset, f.questions, f.codec, f.accuracy) for f in protected} == expected
    assert len(protected) == 6


def test_accuracies_within_budgets_are_the_published_ones(shared_dir: Path) -> None:
    table = pd.read_csv(shared_dir / "reference" / "published_results.csv")
    told = table[table["milestone"] == "M10"]
    expected = {
        (row.dataset, float(row.setting.rpartition("=")[2].replace("p", ".")), row.accuracy)
        for row in told.itertuples()
    }
    found = study_table()
    assert expected == {(r.dataset, share(r.label), r.accuracy) for r in found.itertuples()}
    assert len(found) == 8


def test_the_published_bytes_and_why_they_are_wrong() -> None:
    study = load_study(LATENTWIRE_2026_02)
    assert study.counted.bytes_per_token(16) == 57_344
    assert study.sent.bytes_per_token(16) == 12_288
    note = byte_count_note(study)
    assert "57,344" in note and "12,288" in note and "4.67 times too high" in note


def test_what_was_not_run_is_shown_as_such() -> None:
    study = load_study(LATENTWIRE_2026_02)
    text = render(compare(study, {}), study)
    assert "none of its conditions was run" in text
    assert sum(line.endswith(" not run") for line in text.splitlines()) == 22
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("study: latentwire-2026-02\n", "", "key 'study' is missing"),
        ("accuracy: 0.551", "accuracy: 55.1", r"accuracy' must be from 0 to 1, got 55.1"),
        ("codec: bf16", "codec: fp17", r"codec' must be one of"),
        ("order: back", "order: ends", r"order' must be one of front, back"),
        ("keep_ratio: 0.75, order: back", "keep_ratio: 1, order: back", "stands twice"),
        ("layers: 28", "layers: 0", r"counted.layers' must be a whole number above 0"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LatentWireError, match=sentence) as error:
        load_study(path)
    assert str(path) in str(error.value)
