"""This machine's clock against the tracking server's, or against the store's newest run."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from latentwire.checks.report import CheckWarning
from latentwire.tracking.store import Store, http_get, is_server

MOST_OFF = timedelta(minutes=1)


def check_clock(store: Store) -> str:
    """Raises CheckWarning for a clock that is more than a minute off.

    A server says what time it is in its answer's Date header. A store without a server has only
    its newest run: one that starts in the future tells of a clock that is wrong, here or where the
    run was made.
    """
    if is_server(store.uri):
        return compare_with_server(store.uri)
    newest = _newest_start(store)
    now = datetime.now(UTC)
    if newest is None:
        return f"{now:%F %T} UTC, no run in the store to compare with"
    if newest - now > MOST_OFF:
        raise CheckWarning(
            f"the store's newest run starts {_in_words(newest - now)} in the future: the clock is"
            " wrong here, or was where that run was made"
        )
    return f"{now:%F %T} UTC, after the store's newest run"


def compare_with_server(uri: str) -> str:
    """The same for a server, by its answer to one request."""
    before = datetime.now(UTC)
    answer = http_get(uri)
    after = datetime.now(UTC)
    try:
        there = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return "the tracking server does not say what time it is"
    if there.tzinfo is None:  # "-0000": UTC, of no known place
        there = there.replace(tzinfo=UTC)
    # The header was written at some time between, and has whole seconds.
    off = there - (before + (after - before) / 2)
    if abs(off) > MOST_OFF:
        side = "ahead of" if off < timedelta(0) else "behind"
        raise CheckWarning(f"the clock here is {_in_words(abs(off))} {side} the tracking server's")
    return f"{abs(off).total_seconds():.0f} s from the tracking server's"


def _newest_start(store: Store) -> datetime | None:
    newest = store.newest_start_ms()
    try:
        return None if newest is None else datetime.fromtimestamp(newest / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a year of five digits
        raise CheckWarning("the store's newest run starts in a year that no clock shows") from None


def _in_words(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
