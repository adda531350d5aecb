"""Folders that can and that cannot be written."""

from pathlib import Path

from latentwire.checks.file_system import file_system, nearest, why_not_writable


def test_a_file_that_is_not_there_yet_has_its_folders_file_system(tmp_path: Path) -> None:
    assert file_system(tmp_path / "none" / "mlflow.db") == file_system(tmp_path) != ""
    assert file_system(Path("/proc/none")) == "proc"


def test_what_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) is None
    assert why_not_writable(tmp_path / "not" / "yet") is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    assert (why_not_writable(Path("/proc/1/none")) or "").startswith("/proc/1: ")
    file = tmp_path / "file"
    file.touch()
    assert "Not a directory" in (why_not_writable(file) or "")


def test_the_nearest_folder_is_one_that_exists(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
