"""Paths and files as users give them: read, or one sentence."""

import os
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.milestones.registry import all_milestones
from latentwire.pairs.locate import locate
from latentwire.pairs.pair import FileSource
from latentwire.parameters import checked
from latentwire.user_files import (
    csv_lines,
    nearest,
    output_folder,
    path_of,
    read_bytes,
    read_text,
    user_path,
    why_not_writable,
)


def test_a_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a b") == tmp_path / "a b"
    assert user_path("a/b", tmp_path) == tmp_path / "a/b"
    assert user_path("/a", tmp_path) == Path("/a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("~nosuch-user/x", "home folder of a user that there is not"),
        ("x" * 300, "File name too long"),
        ("a/" * 3000, "File name too long"),
        ("a\0b", "NUL"),
        ("a\udcffb", "not UTF-8"),
        ("loop", "symbolic links"),
    ],
)
def test_what_can_be_no_path_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LatentWireError, match=words) as caught:
        user_path(text)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("C2C_CKPT_ROOT", "~nosuch-user/x")
    with pytest.raises(LatentWireError, match=r"C2C_CKPT_ROOT: .* there is not: .*unset it"):
        path_of("C2C_CKPT_ROOT")
    with pytest.raises(LatentWireError, match="C2C_CKPT_ROOT: "):
        locate(FileSource(repo="some/fusers", subfolder="one"), "fuser", download=False)
    monkeypatch.setenv("C2C_CKPT_ROOT", "")
    assert path_of("C2C_CKPT_ROOT") is None


def test_where_nothing_can_be_is_not_writable_in_words(tmp_path: Path) -> None:
    for name in ("~nosuch-user/x", "x" * 300, "a/" * 3000):
        assert nearest(tmp_path / name) == tmp_path
        why_not_writable(Path(name))
    (tmp_path / "file").touch()
    assert "Not a directory" in str(why_not_writable(tmp_path / "file" / "below"))


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


def test_a_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert output_folder(str(tmp_path / "new" / "below")) == tmp_path / "new" / "below"
    for text in ("file", "file/below"):
        with pytest.raises(LatentWireError, match=r"file is not a folder"):
            output_folder(str(tmp_path / text))
    assert not (tmp_path / "new").exists()


def test_every_milestone_refuses_a_folder_that_takes_no_files_before_it_begins(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    writing = [
        (milestone, parameter)
        for milestone in all_milestones()
        for parameter in milestone.parameters
        if parameter.name == "output_dir"
    ]
    assert {m.name for m, _ in writing} >= {"demo_pair", "m4", "m5", "main", "reproduce", "train"}
    refused = (
        (f"{tmp_path}/file", "file is not a folder: name another place to write to"),
        ("/proc/1/out", r"/proc/1/out cannot be written \(/proc/1: .*\): name another place"),
    )
    for _, parameter in writing:
        for text, words in refused:
            with pytest.raises(LatentWireError, match=rf"output_dir={text}: .*{words}"):
                checked([parameter], {"output_dir": text})


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path, "a folder"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(LatentWireError, match=rf"cannot be read \(.*{words}"):
            read_bytes(path)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(LatentWireError, match="11 bytes, at most 10 are read"):
        read_bytes(tmp_path / "large", 10)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_is_read_by_its_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "text"
    path.write_text("é, €\r\n\U0001f600\n\n", encoding=encoding, newline="")
    assert read_text(path) == "é, €\r\n\U0001f600\n\n"
    assert list(csv_lines(path)) == ["é, €\r\n", "\U0001f600\n", "\n"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a\nb\xff", "not UTF-8 at byte 2 in line 2"),
        (b"\xef\xbb\xbfa\nb\xff", "not UTF-8 at byte 2 in line 2"),
        (b"\xff\xfea\0\n\0\x00\xd8", "not UTF-16 at byte 1 in line 2"),
        (b"a\nb\0c", "holds a NUL character in line 2"),
        ("ab\n".encode("utf-16-le"), "holds a NUL character in line 1"),
    ],
)
def test_what_is_no_text_is_named_by_its_line(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(LatentWireError, match=f"text: {words}"):
        read_text(tmp_path / "text")
