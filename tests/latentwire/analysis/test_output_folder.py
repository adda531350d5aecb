import json
from pathlib import Path

from latentwire.analysis.output_folder import MANIFEST, record_written


def write(folder: Path, **texts: str) -> list[Path]:
    paths = [folder / f"{name}.png" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths


def test_what_an_earlier_start_left_is_named_and_stays(tmp_path: Path) -> None:
    assert record_written(tmp_path, "m4", write(tmp_path, a="1", b="2")) is None
    assert record_written(tmp_path, "m4", write(tmp_path, a="3", b="2")) is None
    said = record_written(tmp_path, "m4", write(tmp_path, a="4", c="5"))
    assert said and "earlier start" in said and "b.png" in said and "a.png" not in said
    # It is said as long as it is there, whatever else is written.
    said = record_written(tmp_path, "m4", write(tmp_path, a="6"))
    assert said and "b.png, c.png" in said
    listed = json.loads((tmp_path / MANIFEST).read_text())["writers"]["m4"]
    assert (list(listed["written"]), list(listed["earlier"])) == (["a.png"], ["b.png", "c.png"])
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.png").write_text("the user's own by now")
    assert record_written(tmp_path, "m4", write(tmp_path, a="7")) is None
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "c.png", MANIFEST}


def test_writers_do_not_speak_of_each_other(tmp_path: Path) -> None:
    assert record_written(tmp_path, "m4", write(tmp_path, a="1")) is None
    assert record_written(tmp_path, "reproduce", write(tmp_path, b="1")) is None
    assert record_written(tmp_path, "m4", write(tmp_path, a="2")) is None


def test_pictures_of_a_folder_without_a_manifest_are_known_by_name(tmp_path: Path) -> None:
    write(tmp_path, budget_curve_set="1", holiday="2")
    for text in ("1", "2"):
        said = record_written(tmp_path, "m4", write(tmp_path, budget_curve_set_demo=text))
        assert said and "budget_curve_set.png;" in said and "holiday" not in said


def test_a_file_of_that_name_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for text in ("mine", "[]", '{"writers": {"m4": {"written": {"a": 1}, "earlier": {}}}}'):
        (tmp_path / MANIFEST).write_text(text)
        said = record_written(tmp_path, "m4", write(tmp_path, a="1"))
        assert said and "left alone" in said
        assert (tmp_path / MANIFEST).read_text() == text


def test_the_same_files_give_the_same_manifest(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        record_written(tmp_path / name, "m4", write(tmp_path / name, a="1", b="2"))
        found.append((tmp_path / name / MANIFEST).read_bytes())
    assert found[0] == found[1]
