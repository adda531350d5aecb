"""Metrics by step of a run that goes on for long: written together now and then, and kept while the
store cannot be reached."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from mlflow.entities import Metric

from latentwire.errors import first_line
from latentwire.tracking.retries import fail_fast
from latentwire.tracking.runs import MOST_METRICS, RunWriter

EVERY_S = 5.0
AGAIN_AFTER_S = 60.0  # where the store could not be reached

log = logging.getLogger("latentwire")


class SeriesLog:
    """The metrics of one run, by step."""

    def __init__(self, writer: RunWriter, run_id: str) -> None:
        self._writer, self._run_id = writer, run_id
        self._waiting: list[Metric] = []
        self._next = time.monotonic() + EVERY_S

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of a step, and write all that wait where it is time for that. A store
        that is away is asked again later."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(v), now, step) for name, v in metrics.items()]
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        try:
            with fail_fast():
                self.flush()
        except Exception as error:
            if not self._writer.store.is_unavailable(error):
                raise
            self._next = time.monotonic() + AGAIN_AFTER_S
            log.warning("metrics wait for the tracking store: %s", first_line(error))

    def flush(self) -> None:
        """Write all that waits; raises what the store does."""
        while self._waiting:
            part = self._waiting[:MOST_METRICS]
            self._writer.store.client.log_batch(self._run_id, part)
            del self._waiting[: len(part)]

    def try_flush(self) -> None:
        """Write what the store takes: something else is about to be told."""
        with suppress(Exception), fail_fast():
            self.flush()
