import threading

import pytest
from mlflow.store.entities import PagedList
from mlflow.utils.search_utils import SearchUtils

from latentwire.tracking import pages as module
from latentwire.tracking.pages import AHEAD, Page, pages_ahead

SIZE = 10


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between requests; nobody waits here."""
    found: list[float] = []
    monkeypatch.setattr(module, "sleep", found.append)
    return found


class Server:
    """Finds the numbers below `runs`, the `first` ones on the first page; `token` is how it calls
    the page that begins at one."""

    def __init__(self, runs: int, token=None, first: int = SIZE) -> None:  # type: ignore[no-untyped-def]
        self.runs, self.first, self.asked = runs, first, []  # type: ignore[var-annotated]
        self.token = token or (lambda start: SearchUtils.create_page_token(start).decode())
        self.starts = {self.token(start): start for start in range(1000)}
        self.waits = threading.Barrier(1)

    def ask(self, token: str | None) -> Page:
        self.waits.wait(5)
        self.asked.append(token)
        start = self.starts[token] if token else 0
        stop = start + (SIZE if token else self.first)
        page = list(range(start, min(stop, self.runs)))
        return PagedList(page, self.token(stop) if stop < self.runs else None)

    def found(self) -> list[int]:
        first = self.ask(None)
        later = pages_ahead(self.ask, first.token, SIZE, self.first)
        return [*first, *(each for page in later for each in page)]


@pytest.mark.parametrize("runs", [0, 1, SIZE, SIZE + 1, 2 * SIZE, 7 * SIZE, 7 * SIZE + 3])
@pytest.mark.parametrize("token", [None, str, lambda start: f"{start}" if start != 30 else "odd"])
@pytest.mark.parametrize("first", [SIZE, 3])
def test_every_run_is_found_once_and_in_order(runs: int, token, first: int) -> None:  # type: ignore[no-untyped-def]
    server = Server(runs, token, first)
    assert server.found() == list(range(runs))


@pytest.mark.parametrize("first", [SIZE, 3])
def test_pages_are_asked_for_side_by_side(first: int) -> None:
    server = Server(first + AHEAD * SIZE, None, first)
    token = server.ask(None).token
    server.waits = threading.Barrier(AHEAD)  # broken unless so many ask at once
    assert len(list(pages_ahead(server.ask, token, SIZE, first))) == AHEAD


def test_a_server_with_other_tokens_is_asked_page_by_page() -> None:
    server = Server(5 * SIZE, lambda start: f"from {start}")
    server.found()
    assert server.asked == [None, "from 10", "from 20", "from 30", "from 40"]


def test_a_page_that_nothing_names_is_not_taken() -> None:
    """Runs that begin while pages are read make the last page's token come late: guesses beyond
    what the server names are left, whatever they say."""
    server = Server(3 * SIZE)

    def ask(token: str) -> Page:
        if server.starts[token] >= 3 * SIZE:
            raise AssertionError("there is no such page")
        return server.ask(token)

    first = server.ask(None)
    found = [each for page in pages_ahead(ask, first.token, SIZE, SIZE) for each in page]
    assert found == list(range(SIZE, 3 * SIZE))


def test_only_the_page_that_is_named_is_taken() -> None:
    """A server that gives less than it was asked for names where it stopped."""

    def ask(token: str | None) -> Page:
        start = SearchUtils.parse_start_offset_from_page_token(token)
        stop = min(start + (SIZE if start < 2 * SIZE else SIZE // 2), 60)
        token = SearchUtils.create_page_token(stop).decode() if stop < 60 else None
        return PagedList(list(range(start, stop)), token)

    pages = pages_ahead(ask, ask(None).token, SIZE, SIZE)
    assert [each for page in pages for each in page] == list(range(SIZE, 60))


def test_an_error_is_raised_where_its_page_is_due() -> None:
    server = Server(5 * SIZE)

    def ask(token: str) -> Page:
        if server.starts[token] == 3 * SIZE:
            raise ConnectionError("away")
        return server.ask(token)

    pages = pages_ahead(ask, server.ask(None).token, SIZE, SIZE)
    assert [next(pages)[0], next(pages)[0]] == [10, 20]
    with pytest.raises(ConnectionError):
        next(pages)


def test_who_stops_reading_leaves_no_thread() -> None:
    server = Server(50 * SIZE)
    pages = pages_ahead(server.ask, server.ask(None).token, SIZE, SIZE)
    next(pages)
    before = threading.active_count()
    pages.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before
    assert len(server.asked) <= 2 + AHEAD


def test_only_the_first_requests_are_kept_apart(naps: list[float]) -> None:
    server = Server(30 * SIZE)
    server.found()
    assert len(naps) == AHEAD and all(0 < nap < 0.1 for nap in naps)
