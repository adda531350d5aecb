"""The file system that a folder is on."""

from pathlib import Path

from latentwire.checks.file_system import file_system


def test_a_file_that_is_not_there_yet_has_its_folders_file_system(tmp_path: Path) -> None:
    assert file_system(tmp_path / "none" / "mlflow.db") == file_system(tmp_path) != ""
    assert file_system(Path("/proc/none")) == "proc"
