"""The store's answers beside the published study's: compared, logged and written."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from latentwire.analysis.atomic_write import write_text
from latentwire.analysis.csv_files import csv_text
from latentwire.analysis.curve import ConditionResult, merged
from latentwire.analysis.markdown import verbatim
from latentwire.analysis.output_folder import record_written
from latentwire.analysis.published import read_published
from latentwire.analysis.reproduction.compare import Answers, compare
from latentwire.analysis.reproduction.published_accuracies import (
    Point,
    bundled_study,
    point,
)
from latentwire.analysis.reproduction.report import as_frame, render
from latentwire.errors import LatentWireError
from latentwire.parameters import Values
from latentwire.redaction import redact_uri
from latentwire.session.milestone_run import milestone_run
from latentwire.spec.axes import CACHES, has_budget
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.results_reader import newest_results
from latentwire.tracking.store import open_store

log = logging.getLogger("latentwire")

CSV_FILE, TEXT_FILE = "reproduction.csv", "reproduction.txt"


def run(values: Values) -> None:
    """Compare the answers with the published ones, and say and log what comes of it."""
    store = open_store()
    flush_outbox(store)
    study = bundled_study()
    own = by_point(
        newest_results(
            store, values["source"], study.pair, lambda params: params["control"] == "matched"
        )
    )
    if not any(figure.point in own for figure in study.figures):
        raise LatentWireError(
            f"the tracking store {redact_uri(store.uri)} has no finished"
            f" {values['source']} answers of {study.pair} under the published conditions: run"
            f" m0, m2 and m3 with pair={study.pair} first"
        )
    published = None
    if values["reference_dir"]:
        found = read_published(values["reference_dir"])
        published = by_point(condition.result for condition in found)
    compared = compare(study, own, published, values["tolerance_points"])
    text = render(compared, study)
    csv = csv_text(as_frame(compared, study))
    with milestone_run(store, "reproduce", values, study.name) as milestone:
        writer, run_id = milestone.writer, milestone.run_id
        writer.log_text(run_id, text, TEXT_FILE)
        writer.log_text(run_id, csv, CSV_FILE)
        writer.set_description(run_id, verbatim(text))
        metrics = {"mean_difference": compared.mean_difference, "p": compared.p}
        tags = {
            "latentwire.verdict": compared.verdict,
            "latentwire.compared": "answers" if compared.paired else "accuracies",
        }
        writer.log(run_id, metrics=metrics, tags=tags)
        print(text, end="")
        if values["output_dir"]:
            _write(values["output_dir"], {TEXT_FILE: text, CSV_FILE: csv})


def by_point(results: Iterable[ConditionResult]) -> dict[Point, Answers]:
    """Answers with the question's own cache by condition and row of the question set; none of
    calibrated codecs and budgets, which the study did not have."""
    parts: dict[Point, list[ConditionResult]] = defaultdict(list)
    for result in results:
        if result.system not in CACHES or result.control != "matched" or result.calibration:
            continue
        if has_budget(vars(result)):
            continue
        assert result.keep_ratio is not None and result.order is not None
        parts[point(result.dataset, result.codec, result.keep_ratio, result.order)].append(result)
    return {
        key: {record.index: record for record in merged(str(key), members).values()}
        for key, members in parts.items()
    }


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write_text(folder / name, text)
        print(f"written: {folder / name}")
    left = record_written(folder, "reproduce", [folder / name for name in files])
    if left:
        log.warning(left)
