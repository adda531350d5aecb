"""The benchmarks run, on tiny shapes; what they count is right where it can be counted by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *options: str) -> str:
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'C2C'}",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_grid(tmp_path: Path) -> None:
    output = tmp_path / "grid.json"
    text = run(
        "grid.py", "--small", "--limit", "2", "--profile", "--pipeline-sample", "1",
        "--deranged", "--output", str(output),
    )  # fmt: skip
    said = json.loads(output.read_text())
    assert said["conditions"] == 24 and said["answers"] == 24 * 4
    assert "times_faster_than_pipeline" in text
    # The first two questions of each set: prompts of 142, 157 tokens and so on.
    table = pd.read_csv(ROOT / "results" / "published_lengths.csv.gz")
    prompts = table.groupby("dataset").head(2)["prompt_tokens"]
    assert said["phases"]["receiver prefill"]["tokens"] == sum(prompts - 1)
    kept = {"1": 3, "0.75": 2, "0.5": 2, "0.25": 2, "0.1": 2}
    expected = sum(
        times * int((n - 1) * float(ratio)) for n in prompts for ratio, times in kept.items()
    )
    assert said["phases"]["fusion"]["tokens"] == 2 * expected  # matched and deranged


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    output = tmp_path / "scaling.csv"
    run("grid.py", "--small", "--scaling", "--device", "cpu", "--output", str(output))
    table = pd.read_csv(output)
    assert set(table["sweep"]) == {"conditions", "examples", "prompt_tokens", "fuser_hidden"}
    assert table[["seconds", "seconds_each", "exponent"]].notna().all().all()
