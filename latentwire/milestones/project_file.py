"""MLproject, written from the milestones' parameters: python -m latentwire.milestones.project_file

`make mlproject` runs it.
"""

import json
from pathlib import Path

import latentwire
from latentwire.milestones.registry import Milestone, all_milestones
from latentwire.parameters import Parameter

PATH = Path(latentwire.__file__).resolve().parents[1] / "MLproject"
HEAD = """\
# Written by `make mlproject`, from the parameters that the milestones declare.
name: latentwire

conda_env: conda.yaml

entry_points:
"""


def project_file() -> str:
    """The text of MLproject."""
    return HEAD + "\n".join(map(_entry, all_milestones()))


def _entry(milestone: Milestone) -> str:
    lines = [f"  {milestone.name}:", "    parameters:"]
    lines += [
        f"      {p.name}: {{type: {p.mlflow_type}, default: {_default(p)}}}"
        for p in milestone.parameters
    ]
    lines += ["    command: >-", f"      python entry_points/run.py {milestone.name}"]
    lines += [f"      {p.option} {{{p.name}}}" for p in milestone.parameters]
    return "\n".join(lines) + "\n"


def _default(parameter: Parameter) -> str:
    return json.dumps(parameter.default) if parameter.mlflow_type == "string" else parameter.default


if __name__ == "__main__":
    PATH.write_text(project_file(), encoding="utf-8")
    print(f"written: {PATH}")
