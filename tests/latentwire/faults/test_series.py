"""`main` ended at random instants and resumed; `make faults` does the same hundreds of times."""

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from faults import stores
from faults.series import PARAMETERS, Report, disturbed, undisturbed
from tests_support import Project

from latentwire.tracking.runs import PROCESS, process_name

FAULTS = [
    ("SIGKILL", signal.SIGKILL),
    ("SIGINT to the group", signal.SIGINT),
    ("SIGKILL to the group", signal.SIGKILL),
    ("SIGTERM", signal.SIGTERM),
]
# All codecs take M1 longer than all other milestones together.
SMALL = PARAMETERS | {"limit": 4, "m1_codec": "bf16,int4,kivi2,kvtc1,planes2"}
SMALL |= {"m3_keep_ratio": 0.5}  # of one cache length what is asked here is as true as of five


@pytest.mark.slow
def test_main_ended_at_random_instants_is_as_if_undisturbed(tmp_path: Path) -> None:
    Project(tmp_path).run("m2", help="")  # from now on, what starts processes has its imports
    began = time.monotonic()
    calm = undisturbed(tmp_path / "calm", SMALL)
    took_s = time.monotonic() - began  # on this machine, as busy as it is now
    assert {level for level, _ in calm.results} == {"chunk", "codec", "condition", "calibration"}
    phases: set[str] = set()
    for seed in range(3, 7):  # again where a machine that others use was slower than that
        folder = tmp_path / f"faults{seed}"
        report = disturbed(calm, folder, FAULTS, seed, 0.75 * took_s, SMALL)
        assert report.is_clean(), report.wrong
        assert report.injected.total() == len(FAULTS) and report.completed >= 1
        phases |= {phase for _, phase in report.injected}
        if len(phases) > 1:
            break
    assert len(phases) > 1


def test_what_is_lost_twice_or_different_is_found() -> None:
    calm = stores.Held({("chunk", "a"): 1, ("chunk", "b"): 2}, stores.Counter(), 0, [])
    twice = stores.Counter({("chunk", "a"): 2})
    other = stores.Held({("chunk", "a"): 3, ("chunk", "c"): 4}, twice, 1, ["outbox/x/1.json"])
    assert not any(stores.compare(calm, calm).values())
    found = stores.compare(calm, other)
    assert found == {
        "lost": ["('chunk', 'b')"],
        "strange": ["('chunk', 'c')"],
        "twice": ["('chunk', 'a')"],
        "different": ["('chunk', 'a')"],
        "running": 1,
        "left": ["outbox/x/1.json"],
    }
    assert not Report(findings=[found]).is_clean()


def test_runs_of_a_process_are_known_by_the_tag_that_it_writes(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("create table runs (run_uuid, status)")
        database.execute("create table tags (run_uuid, key, value)")
        database.execute("insert into runs values ('a', 'RUNNING')")
        database.execute("insert into tags values ('a', ?, ?)", (PROCESS, process_name()))
    assert stores.still_running(tmp_path, os.getpid()) == 1
    assert stores.still_running(tmp_path, os.getpid() + 1) == 0
