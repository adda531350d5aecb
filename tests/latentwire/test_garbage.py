"""When garbage is not looked for."""

import gc
from functools import cache

import pytest

from latentwire import garbage
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
    monkeypatch.setattr(garbage, "_keep_for_good", cache(garbage._keep_for_good.__wrapped__))
    monkeypatch.setattr(gc, "freeze", lambda: kept.append(gc.isenabled()))
    for _ in range(2):
        with importing():
            assert not gc.isenabled() and len(kept) < 2
    assert kept == [True]
