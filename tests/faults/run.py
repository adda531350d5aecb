"""End `main` at random instants, resume it, and see whether anything was lost or counted twice.

    PYTHONPATH=.:C2C:tests python tests/faults/run.py --kills 200 --interrupts 40 --terminations 40

Prints the report, and writes it with --report FILE.json; exits with 1 if anything is not as an
undisturbed run leaves it. 280 faults take about half an hour.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from faults.series import disturbed, undisturbed


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--kills", type=int, default=200, help="SIGKILL, half of them to the whole process group")
    add("--interrupts", type=int, default=40, help="SIGINT to the process group, as Ctrl-C")
    add("--terminations", type=int, default=40, help="SIGTERM, as a scheduler sends")
    add("--seed", type=int, default=7)
    add("--report", type=Path, help="the report as JSON")
    options = arguments.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    faults = [("SIGKILL", signal.SIGKILL)] * (options.kills - options.kills // 2)
    faults += [("SIGKILL to the group", signal.SIGKILL)] * (options.kills // 2)
    faults += [("SIGINT to the group", signal.SIGINT)] * options.interrupts
    faults += [("SIGTERM", signal.SIGTERM)] * options.terminations
    random.Random(options.seed).shuffle(faults)
    with tempfile.TemporaryDirectory() as folder:
        calm = undisturbed(Path(folder) / "calm")
        report = disturbed(calm, Path(folder) / "faults", faults, options.seed)
    content = {**report.as_json(), "seed": options.seed, "results_of_a_study": len(calm.results)}
    print(json.dumps(content, indent=1))
    if options.report:
        options.report.write_text(json.dumps(content, indent=1) + "\n")
    return int(not report.is_clean())


if __name__ == "__main__":
    sys.exit(main())
