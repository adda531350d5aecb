"""The table of docs/faults.md from a report: python tests/faults/table.py results/faults.json"""

import json
import sys
from pathlib import Path
from typing import Any

PHASES = ("start", "m0", "baselines", "calibrate", "m1", "m2", "m3", "m4", "curves")
TOTALS = {
    "faults_injected": "faults injected",
    "studies_completed": "studies completed",
    "lost": "results lost",
    "duplicates": "results counted twice",
    "different": "results that differ",
    "runs_left_running": "runs left RUNNING",
    "files_left": "letters or half-written files left",
    "slowest_end_after_a_signal_s": "slowest end after SIGINT or SIGTERM, s",
}


def table(report: dict[str, Any]) -> str:
    """Two tables in Markdown: faults by phase, and what they did."""
    met = [phase for phase in PHASES if any(phase in row for row in report["faults"].values())]
    lines = [f"| fault | {' | '.join(met)} |", "|---" * (len(met) + 1) + "|"]
    for fault, row in report["faults"].items():
        lines.append(f"| {fault} | {' | '.join(str(row.get(phase, 0)) for phase in met)} |")
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {title} | {report[name]} |" for name, title in TOTALS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
