"""A search's pages, several asked for at once: a server makes each in one of its processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep
from typing import TypeAlias

from mlflow.entities import Run
from mlflow.store.entities import PagedList
from mlflow.utils.search_utils import SearchUtils

AHEAD = 4  # a server has four processes unless told otherwise
FIRST = 200  # runs of a search's first page: until it is there, all but one of them wait

_APART_S = 0.05  # requests at once may all go to one process; one at work leaves the next to others

Page: TypeAlias = PagedList[Run]


def pages_ahead(
    ask: Callable[[str], Page], token: str | None, size: int, first: int
) -> Iterator[Page]:
    """The pages from the one that `token` names on, after `first` runs; each of `size` runs but the
    last.

    MLflow's tokens say where a page begins, so the next ones can be guessed. A page that was asked
    for by a guess is taken only when the page before names it by that very token; where a server's
    are others, page follows page.
    """
    asked: dict[str, Future[Page]] = {}
    pool = ThreadPoolExecutor(AHEAD)
    number, submitted = -1, 0
    try:
        while token:
            number += 1
            if token == _guess(first + number * size):
                while submitted < number + AHEAD:
                    guess = _guess(first + submitted * size)
                    asked[guess] = pool.submit(ask, guess)
                    submitted += 1
                    if number == 0:
                        sleep(_APART_S)
            page = asked.pop(token).result() if token in asked else ask(token)
            yield page
            token = page.token
    finally:
        pool.shutdown(cancel_futures=True)


def _guess(start: int) -> str:
    return str(SearchUtils.create_page_token(start).decode())
