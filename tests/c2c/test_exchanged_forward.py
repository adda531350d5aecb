"""A module is asked once, whoever asks again; another question is another."""

import gc

from torch import nn

from c2c import exchanged_forward as known
from c2c.exchanged_forward import asked_once


def test_each_question_is_asked_once() -> None:
    told: list[nn.Module] = []

    def yes(module: nn.Module) -> bool:
        told.append(module)
        return True

    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert asked_once(first, yes) and asked_once(first, yes) and asked_once(second, yes)
    assert told == [first, second]
    assert not asked_once(first, lambda module: False)


def test_a_module_is_not_kept_for_it() -> None:
    before = len(known._known)
    module = nn.Linear(2, 2)
    asked_once(module, lambda module: True)
    assert len(known._known) == before + 1
    del module
    gc.collect()
    assert len(known._known) == before
