"""What `main` does when a step cannot be done."""

from types import SimpleNamespace
from typing import Any

import pytest

from latentwire.errors import LatentWireError
from latentwire.milestones import calibrate, m1, main
from latentwire.parameters import checked


def test_without_a_calibration_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = checked(main.PARAMETERS, {p.name: p.default for p in main.PARAMETERS})
    study: Any = SimpleNamespace()

    def cannot(*_: object) -> None:
        raise LatentWireError("train.jsonl: cannot be read")

    monkeypatch.setattr(calibrate, "run_in", cannot)
    monkeypatch.setattr(m1, "run_in", cannot)
    main._run_step(calibrate, study, values)
    assert capsys.readouterr().out == "calibrate: left out: train.jsonl: cannot be read\n"
    with pytest.raises(LatentWireError):
        main._run_step(m1, study, values)
