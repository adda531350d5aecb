"""When garbage is not looked for."""

import gc

import pytest

from latentwire.garbage import gc_paused, importing


def test_the_collector_is_as_it_was_afterwards() -> None:
    with pytest.raises(ValueError), gc_paused():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()


def test_a_process_keeps_its_first_imports_out_of_the_search_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: len(kept))
    monkeypatch.setattr(gc, "freeze", lambda: kept.append(gc.isenabled()))
    for _ in range(2):
        with importing():
            assert not gc.isenabled() and len(kept) < 2
    assert kept == [True]
