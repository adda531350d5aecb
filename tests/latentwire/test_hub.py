"""Whether the hub can be reached: tried a few times, once in a process."""

import time
from types import SimpleNamespace

import httpx
import huggingface_hub.utils
import pytest
from huggingface_hub import constants
from small_server import small_server

from latentwire import hub
from latentwire.errors import LatentWireError
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import locate
from latentwire.tasks.registry import load_training


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A hub that nobody answers at; how long was waited between tries."""
    with small_server() as uri:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", uri)
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("status", [200, 404, 503])
def test_whatever_answers_is_there(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with small_server(status) as uri:
        monkeypatch.setattr(constants, "ENDPOINT", uri)
        assert hub.answers()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not hub.answers()


def test_a_hub_that_is_not_there_is_tried_a_few_times_and_once(gone: list[float]) -> None:
    for _ in range(3):
        assert not hub.answers()
    assert gone.count(hub.PAUSE_S) == hub.TRIES - 1


def test_a_hiccup_is_none(monkeypatch: pytest.MonkeyPatch, gone: list[float]) -> None:
    outcomes = [httpx.ConnectError("no route"), None]

    def head(*_: object, **__: object) -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    session = SimpleNamespace(head=head)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: session)
    assert hub.answers() and outcomes == []


def test_what_a_hub_alone_has_is_refused_at_once(gone: list[float]) -> None:
    """Their clients would wait for a minute and more, and say so line by line."""
    for named in ("nowhere", "models/nowhere"):
        source = load_pair(f"receiver={named},sharer={named},interface=prefix").receiver
        said = f"the model {named} could not be had: no folder here is called so, the Hugging Face"
        with pytest.raises(LatentWireError, match=f"{said} hub cannot be reached and it is not"):
            locate(source, "model")
    said = r"\(the hub cannot be reached\); without a network, give data_dir"
    with pytest.raises(LatentWireError, match=said):
        load_training("openbookqa")
    assert gone.count(hub.PAUSE_S) == hub.TRIES - 1 and max(gone) <= hub.PAUSE_S
