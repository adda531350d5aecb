"""What tracking costs a grid while it computes: claims, letters, and the delivering process.

    PYTHONPATH=.:C2C python benchmarks/tracking_cost.py [--busy SECONDS]

The grid of M0, M2 and M3 (1,650 questions in 9 chunks, 13 conditions) with answers that are made up
at once: what is left is what the computing process spends on tracking, per chunk claimed and per
chunk run sent. With `--busy` a computation (a loop of Python, which shares nothing with it but
the machine) takes that long in all; the time to its end, with and without tracking, shows what
the delivering process beside it costs.
"""

import argparse
import os
import tempfile
import time

from latentwire.evaluation.record import Record
from latentwire.session.chunk_queue import Queue, work_items
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import Setting
from latentwire.tracking.leases import Leases
from latentwire.tracking.outbox import Outbox, pending_chunk
from latentwire.tracking.runs import (
    CHUNK,
    CONDITION,
    FINGERPRINT,
    IDENTITY,
    MILESTONE,
    SOURCE,
    RunWriter,
)
from latentwire.tracking.store import open_store

SETS = {"arc_c": 1150, "openbookqa": 500}
CHUNK_SIZE = 200
CUTS = [(0.75, "front"), (0.75, "back"), (0.5, "front"), (0.5, "back"), (0.25, "front")]
CUTS += [(0.25, "back"), (0.1, "front"), (0.1, "back")]
CONDITIONS = [
    Condition("receiver"),
    Condition("sharer"),
    *(Condition("c2c", Channel(codec), "matched") for codec in ("bf16", "int8", "int4")),
    *(Condition("c2c", Channel("int8", ratio, order), "matched") for ratio, order in CUTS),
]
OUTPUT = "The correct answer is B, because of what the passage says about it."


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--busy", type=float, default=25.0, help="seconds of computing")
    options = arguments.parse_args()
    settings = [Setting("p", "0" * 64, name, "1" * 64, 1, "bfloat16", 42) for name in SETS]
    spans = {
        name: [(start, min(start + CHUNK_SIZE, count)) for start in range(0, count, CHUNK_SIZE)]
        for name, count in SETS.items()
    }
    units = work_items([(s, c, spans[s.dataset]) for s in settings for c in CONDITIONS])
    share = options.busy / len(units)
    began = time.perf_counter()
    for _ in units:
        compute(share)
    alone = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        store = open_store()
        writer = RunWriter(store, {SOURCE: "local", MILESTONE: "m3"})
        run_id = writer.start("m3", "milestone", None, {}, {})
        parents = {c: writer.start(c.label, "condition", run_id, {}, {}) for c in CONDITIONS}
        claimed = sent = 0.0
        letters = 0
        with Leases(store, run_id) as leases, Outbox(store) as outbox:
            queue = Queue(store, leases, list(units))
            whole = time.perf_counter()
            while True:
                began = time.perf_counter()
                unit = queue.take()
                claimed += time.perf_counter() - began
                if unit is None:
                    break
                compute(share)
                record = Record("q", 0, "A", "B", False, 134, 11, 123_456, OUTPUT, elements=9000)
                records = [record] * (unit.span[1] - unit.span[0])
                began = time.perf_counter()
                messages = []
                for condition in unit.conditions:
                    tags = {
                        **writer.common_tags,
                        FINGERPRINT: unit.setting.chunk_fingerprint(condition, *unit.span),
                        CONDITION: unit.setting.condition_fingerprint(condition),
                        CHUNK: f"{unit.span[0]:05d}-{unit.span[1]:05d}",
                        IDENTITY: unit.setting.identity(),
                    }
                    message = pending_chunk(
                        *(store, condition.label, parents[condition], condition.params(), tags),
                        {"accuracy": 0.0, "examples": len(records)},
                        *(records, share),
                    )
                    messages.append(message)
                    letters += 1
                queue.mark_submitted(unit, outbox.enqueue(messages))
                sent += time.perf_counter() - began
            tracked = time.perf_counter() - whole
            began = time.perf_counter()
            outbox.wait()
            drained = time.perf_counter() - began
    print(f"{len(units)} chunks, {letters} chunk runs, {os.cpu_count()} cores")
    print(f"claiming          {claimed:.3f} s, {1000 * claimed / len(units):.1f} ms a chunk")
    print(f"letters           {sent:.3f} s, {1000 * sent / letters:.2f} ms a chunk run")
    print(f"computing alone   {alone:.2f} s; with tracking beside it {tracked:.2f} s")
    print(f"share             {100 * (tracked - alone) / tracked:.1f} %")
    print(f"after the end     {drained:.2f} s until all runs are in the store")


def compute(seconds: float) -> None:
    """A fixed amount of Python that takes about so long here."""
    for _ in range(int(seconds * LOOPS_PER_SECOND)):
        sum(range(1000))


def loops_per_second() -> float:
    began, loops = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        sum(range(1000))
        loops += 1
    return loops / (time.perf_counter() - began)


LOOPS_PER_SECOND = loops_per_second()

if __name__ == "__main__":
    main()
