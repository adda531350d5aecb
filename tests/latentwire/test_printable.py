"""What others call things does nothing to a terminal."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nasty_names import NASTY

from c2c.errors import printable
from latentwire.printable import PrintableOutput, printable_lines, printable_output

ACTING = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0xD800]


@given(st.text(st.characters() | st.sampled_from([chr(number) for number in ACTING])))
def test_nothing_that_acts_is_left_and_the_rest_stays(text: str) -> None:
    shown = printable(text)
    assert not any(chr(number) in shown for number in ACTING)
    assert printable(shown) == shown
    assert printable_lines(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert shown == text


def test_escapes_are_shown() -> None:
    assert printable("a\x1b]0;x\x07\n") == r"a\x1b]0;x\x07\n"
    assert printable_lines("a\nb\tc\rd\x9b\u202e") == "a\nb\tc\\rd\\x9b\\u202e"
    assert printable("Зеркало 镜子 é") == "Зеркало 镜子 é"


@pytest.mark.parametrize("name", NASTY)
def test_output_is_harmless(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with printable_output():
        print("pair", name)
    assert sys.stdout is before
    assert "\x1b" not in capsys.readouterr().out
    file = io.StringIO()
    stream = PrintableOutput(file)
    stream.writelines([name, "\n"])
    assert file.getvalue() == printable_lines(name) + "\n" == stream.getvalue()
