"""What `make demo` runs beside `main`: M0 of two more pairs, in one process, which imports once.

.venv/bin/python scripts/demo_others.py [QUESTIONS OF EACH SET]
"""

import os
import sys

import latentwire as lw
from latentwire.ending import end
from latentwire.terminal import prepare_output
from latentwire.tracking.signals import raise_on_sigterm

OTHERS = (
    {"pair": "demo_self"},  # the sharer alone reads a statement
    # A control: what a fuser of the same size gives that nobody trained.
    {"pair": "untrained:demo", "dataset": "demo_graded"},
)


def main(limit: str | None) -> int:
    """M0 of the others, of all questions or so many of each set; an exit status."""
    if hasattr(os, "SCHED_IDLE"):  # only what `main` leaves idle: it is waited for
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    prepare_output()
    raise_on_sigterm()
    try:
        for asked in OTHERS:
            lw.run("m0", device="cpu", chunk_size=600, limit=limit, **asked)
    except BaseException as error:
        return end(error, kept="finished chunks are kept, ")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or [None]))
