"""From M1's measurements to M4's table of bandwidth."""

from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import run_milestone

from latentwire.analysis.break_even_bandwidth import read_csv
from latentwire.analysis.curve import read_csv as read_curve
from latentwire.milestones import m1, m4
from latentwire.milestones.bandwidth_report import links_of
from latentwire.parameters import Values
from latentwire.tracking.latency_results import latency_results
from latentwire.tracking.runs import DEVICE, LEVEL, MILESTONE
from latentwire.tracking.store import Store, open_store

Given = Callable[..., Values]


def finished(store: Store, level: str) -> list[str]:
    return [run.info.run_id for run in store.search(f"tags.`{LEVEL}` = '{level}'")]


def test_measured_once_and_drawn(
    folder: Path, values: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"dataset": "demo_facts", "codec": "int4,bf16", "sample": 1}
    m4_values = {
        **{p.name: p.parse(p.default) for p in m4.PARAMETERS},
        "output_dir": folder / "before",
    }
    m4.run(m4_values)
    assert not (folder / "before" / "links.csv").exists()
    run_milestone(m1, values(m1, **given, dry_run="true"))
    assert "the times beside them of 1 datasets" in capsys.readouterr().out
    for _ in range(2):
        run_milestone(m1, values(m1, **given))
    store = open_store()
    assert len(finished(store, "link")) == 1
    run_milestone(m1, values(m1, **given, dry_run="true"))
    assert "the times beside them of 0 datasets" in capsys.readouterr().out
    m4.run({**m4_values, "output_dir": folder / "out"})
    table = read_csv(folder / "out" / "links.csv")
    assert len(table) == 2 * (1 + 4 + 2)
    assert set(table["device"]) == {"cpu"}
    assert table["accuracy"].isna().all()  # M2 has answered six questions of 500
    curve = read_curve(folder / "out" / "budget_curve.csv")
    table = links_of(store, curve.assign(complete=True))
    caches = table[table["way"] == "cache"].set_index("codec")["accuracy"]
    assert set(caches["int4"]) == {curve.set_index("codec")["accuracy"]["int4"]}
    assert caches["bf16"].isna().all()  # what nobody has asked
    assert {"not evaluated", ""} <= set(table["passed_over"])
    assert "none of the ways was evaluated on" in " ".join(capsys.readouterr().out.split())
    assert (folder / "out" / "links_demo_facts.svg").exists()

    # What another device took is not added to what this one took.
    (milestone,) = {
        run.data.tags["mlflow.parentRunId"] for run in store.search(f"tags.`{LEVEL}` = 'codec'")
    }
    codecs, times = latency_results(store, {"demo"})
    assert sorted(codecs["codec"]) == ["bf16", "int4"] and len(times) == 1
    (link,) = finished(store, "link")
    store.client.set_tag(link, "mlflow.parentRunId", "elsewhere")
    codecs, times = latency_results(store, {"demo"})
    assert codecs.empty and times["device"].tolist() == [""]
    assert store.client.get_run(milestone).data.tags[DEVICE] == "cpu"
    assert store.client.get_run(milestone).data.tags[MILESTONE] == "m1"
    assert all(part.empty for part in latency_results(store, {"another"}))
