"""What a program says, whatever reads it."""

import io
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from c2c.errors import printable, shortened
from latentwire import terminal
from latentwire.ending import BROKEN_PIPE, FAILED, end
from latentwire.errors import LatentWireError, as_sentence, quoted
from latentwire.terminal import PlainLines, never_silent, prepare_output, tell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    monkeypatch.setenv("HF_TOKEN", "a-secret-of-mine")
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_that_an_encoding_lacks_is_escaped(
    prepared: None, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    prepare_output()
    print("≥ 5 \udcff", flush=True)
    assert written.getvalue().decode(encoding).replace("≥", "\\u2265") == "\\u2265 5 \\udcff\n"


def test_nothing_that_is_logged_holds_a_secret(
    prepared: None, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_output()
    logging.getLogger("somebody.else").warning("asked %s with %s", "x://a:b@c", "a-secret-of-mine")
    assert caplog.messages == ["asked x://a:***@c with ***"]


def test_log_lines_are_plain(prepared: None) -> None:
    record = logging.LogRecord("x", 20, "x", 1, "%s", ("\x1b[31mred\nnext a-secret-of-mine",), None)
    assert PlainLines("%(message)s").format(record) == "\\x1b[31mred\nnext ***"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "cannot be written as ascii"),
        (RecursionError("deep"), "nested too deeply"),
        (MemoryError(), "out of memory"),
        (NotADirectoryError(20, "Not a directory", "a\x1b/b"), "a\\x1b/b: Not a directory"),
        (OSError("only words"), "only words"),
        (TimeoutError(), "TimeoutError"),
        (ModuleNotFoundError("no", name="psycopg2"), "package psycopg2 is not here"),
    ],
)
def test_what_the_machine_does_is_one_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, words: str
) -> None:
    assert end(error) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


def test_a_fault_of_the_program_is_shown_as_one() -> None:
    with pytest.raises(KeyError):
        end(KeyError("x"))


def test_a_traceback_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATENTWIRE_TRACEBACK", "1")
    assert end(MemoryError("here")) == FAILED
    assert "MemoryError: here" in capsys.readouterr().err


def test_an_error_is_one_harmless_line_however_much_it_quotes() -> None:
    said = str(LatentWireError(f"\x1b[31m{'x' * 100_000}\r\n  next http://a:b@c: mend it"))
    assert len(said) < 2000 and said.isprintable()
    assert said.startswith("\\x1b[31mxxx") and said.endswith("x next http://a:***@c: mend it")
    assert str(LatentWireError("one", "two")) == "one\ntwo"
    assert as_sentence(said) == said


def test_values_are_quoted_shortly() -> None:
    assert quoted("a\x1bb") == "'a\\x1bb'"
    assert len(quoted("x" * 10**6)) < 100 and len(quoted([["x" * 999] * 999] * 999)) < 320
    assert quoted(10**6000) == "(too long to be shown)"
    assert printable("a\u202e\u2028b\udcff é") == "a\\u202e\\u2028b\\udcff é"
    assert shortened("abc", 3) == "abc"


PROGRAM = """
import sys
from latentwire.ending import end
from latentwire.terminal import prepare_output
prepare_output()
try:
    kept = open("kept", "w")
    assert kept.fileno() > 2
    print("x" * 1_000_000)
    print("done", file=sys.stderr)
    sys.stdout.flush()
except BaseException as error:
    sys.exit(end(error))
"""


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        (">/dev/full", FAILED),
        ("| head -c 1", BROKEN_PIPE),
    ],
)
def test_an_output_that_is_closed_or_full_is_no_traceback(
    tmp_path: Path, streams: str, status: int
) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {streams}', sys.executable, PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'C2C'}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert (tmp_path / "kept").read_text() == ""


def test_a_long_silence_is_broken_where_no_bar_is_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "EVERY_S", 0.2)
    with never_silent("m6"):
        for _ in range(8):  # never silent by itself
            tell("m6: something")
            time.sleep(0.02)
        spoken = capsys.readouterr().out
        time.sleep(0.9)
    silent = capsys.readouterr().out
    time.sleep(0.3)
    assert "at work" not in spoken and capsys.readouterr().out == ""  # nor is it once all is done
    assert re.fullmatch(r"(m6: at work for [01] s\n){2,4}", silent)
    monkeypatch.setenv("LATENTWIRE_VERBOSITY", "quiet")
    with never_silent("m6"):
        time.sleep(0.3)
    assert capsys.readouterr().out == ""
