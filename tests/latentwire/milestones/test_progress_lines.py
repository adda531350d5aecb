"""Progress where output is a file."""

import pytest

from latentwire.session import progress_lines
from latentwire.session.progress_lines import EVERY_S, shown_progress


def test_a_line_now_and_then_and_none_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: now_s[0])
    with shown_progress(400, "m2", "answer") as progress:
        for seconds in (1, EVERY_S, EVERY_S + 1, 3 * EVERY_S):
            now_s[0] = seconds
            progress.update(100)
    assert capsys.readouterr().out == "m2: 200 of 400 answers, 50 %\n"
