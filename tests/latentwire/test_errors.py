"""Errors of libraries that say that nothing can be written become one sentence."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from latentwire.errors import first_of, unwritable


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(number: int) -> None:
    error = OSError(number, os.strerror(number), "runs/records.jsonl")
    sentence = unwritable(error)
    assert sentence is not None and sentence.startswith("no room for runs/records.jsonl: ")
    try:
        try:
            raise error
        except OSError as cause:
            raise RuntimeError("a library's own") from cause
    except RuntimeError as wrapped:
        assert unwritable(wrapped) == sentence


def test_a_full_database() -> None:
    error = sqlite3.OperationalError("database or disk is full")
    assert "no room for the tracking store's database" in str(unwritable(error))
    assert "no right" in str(unwritable(sqlite3.OperationalError("attempt to write a readonly")))
    assert unwritable(sqlite3.OperationalError("database is locked")) is None


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path))
    assert f"no right to use {tmp_path}" in str(unwritable(error))
    assert unwritable(OSError(errno.ECONNREFUSED, "refused")) is None
    assert unwritable(ValueError("other")) is None


def test_a_full_folder_is_named_where_the_system_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentwire.errors._LITTLE_BYTES", 2**60)
    error = OSError(errno.ENOSPC, "No space left on device")
    assert f"a file in {tmp_path}" in str(unwritable(error))
    monkeypatch.setattr("latentwire.errors._LITTLE_BYTES", 0)
    assert "no room for a file: No space" in str(unwritable(error))


def test_names_that_hold_a_comma_are_told_apart() -> None:
    assert first_of(["int8", "int4", "int2"], 2) == "int8, int4 and 1 more"
    assert first_of(["text 8 tokens, zstd", "text 8 tokens"], 2) == (
        "text 8 tokens, zstd; text 8 tokens"
    )
