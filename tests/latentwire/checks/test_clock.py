"""Clocks that agree, and clocks that do not."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from small_server import small_server

from latentwire.checks.clock import check_clock
from latentwire.checks.report import CheckWarning
from latentwire.tracking.store import Store


@pytest.mark.parametrize("seconds", [0, 40, -40])
def test_a_server_within_a_minute_agrees(sqlite_store: Store, seconds: int) -> None:
    with small_server(ahead=timedelta(seconds=seconds)) as uri:
        assert "s from the tracking server's" in check_clock(replace(sqlite_store, uri=uri))


@pytest.mark.parametrize(
    ("ahead", "sentence"),
    [
        (timedelta(hours=1), "the clock here is 60 minutes behind the tracking server's"),
        (timedelta(hours=-1), "the clock here is 60 minutes ahead of the tracking server's"),
        (timedelta(seconds=90), "behind"),
        (timedelta(days=2), "48 hours behind"),
    ],
)
def test_a_clock_that_is_off_is_doubted(
    sqlite_store: Store, ahead: timedelta, sentence: str
) -> None:
    with small_server(ahead=ahead) as uri, pytest.raises(CheckWarning, match=sentence):
        check_clock(replace(sqlite_store, uri=uri))


def test_a_server_without_a_date_says_nothing(sqlite_store: Store) -> None:
    with small_server(date=False) as uri:
        assert "does not say" in check_clock(replace(sqlite_store, uri=uri))


def test_without_a_server_the_newest_run_is_compared(sqlite_store: Store) -> None:
    client = sqlite_store.client
    now_ms = int(time.time() * 1000)
    client.create_run(sqlite_store.experiment_id, start_time=now_ms - 10_000)
    assert "after the store's newest run" in check_clock(sqlite_store)
    run = client.create_run(sqlite_store.experiment_id, start_time=now_ms + 3_600_000)
    try:
        with pytest.raises(CheckWarning, match="newest run starts 60 minutes in the future"):
            check_clock(sqlite_store)
    finally:
        client.delete_run(run.info.run_id)
