"""M4's work: what the store holds as curves, tables and a report."""

import logging
import tempfile
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from latentwire.analysis import csv_files
from latentwire.analysis.bandwidth_figure import link_drawings
from latentwire.analysis.break_even_bandwidth import sentences as link_sentences
from latentwire.analysis.break_even_bytes import break_even_table, sentences, with_break_even
from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes, write_csv
from latentwire.analysis.curve_files import (
    CSV_FILE,
    drawings,
    is_on_page,
    write_latex,
    write_pictures,
)
from latentwire.analysis.curve_json import write_lines
from latentwire.analysis.findings_told import findings
from latentwire.analysis.noninferiority import DEFAULT_MARGIN_POINTS
from latentwire.analysis.output_folder import copy_out
from latentwire.analysis.pictures import Drawing, files_of
from latentwire.analysis.pooled_seeds import POOLED_FILE, pooled_table
from latentwire.analysis.pooled_seeds import sentences as seed_sentences
from latentwire.analysis.provenance import Origin
from latentwire.analysis.report.page import REPORT_FILE, write_report
from latentwire.analysis.report.page_data import matches, page_data
from latentwire.analysis.report.warnings import warning_sentences
from latentwire.analysis.side_by_side import beside
from latentwire.analysis.table import WIDTH
from latentwire.errors import LatentWireError
from latentwire.milestones.bandwidth_report import links_of, write_links
from latentwire.milestones.regimes_found import found_regimes
from latentwire.pairs.load import name_in_runs
from latentwire.parameters import AUTO, Values
from latentwire.redaction import redact_uri
from latentwire.session.curve_log import log_pages, log_table
from latentwire.session.milestone_run import MilestoneRun, milestone_run
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.registry import QuestionSet, load_dataset, pinned_hash, task_names
from latentwire.tracking.dataset_inputs import log_question_sets
from latentwire.tracking.outbox import flush_outbox
from latentwire.tracking.results_reader import (
    chunks_from,
    identity_counts,
    newest,
    origins,
    read_answers,
    require_chunks,
    require_some,
)
from latentwire.tracking.runs import DATASET_HASH
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")

CROSSINGS_FILE = "crossings.csv"
SOURCES = {"local": ("local",), "published": ("published",), "both": ("local", "published")}


@dataclass(frozen=True)
class Evidence:
    """What the store holds for a curve, and the question sets that go with it."""

    results: Sequence[ConditionResult]
    origins: Sequence[Origin]
    identities: Mapping[str, int]  # pair -> identities in the store, of which one is used
    datasets: Mapping[str, Dataset]  # those that could be read
    without_prompts: Sequence[str]  # those that could not, each with the reason
    contents: Mapping[str, str]  # a user's own question sets -> content hash of what was answered

    @cached_property
    def disagreeing(self) -> list[str]:
        """Question sets at hand that are not those that were answered."""
        return sorted(
            name
            for name, dataset in self.datasets.items()
            if not matches(
                dataset,
                (
                    record
                    for part in self.results
                    if part.dataset == name
                    for record in part.records
                ),
            )
        )


def draw(store: Store, values: Values, parent: MilestoneRun | None = None) -> None:
    """Draw what the store holds, of one pair or (`auto`) of every pair."""
    flush_outbox(store)
    pair = None if values["pair"] == AUTO else name_in_runs(values["pair"])
    evidence = gather(store, SOURCES[values["source"]], pair, values["dataset"], values["data_dir"])
    frame = curve_of(evidence, values["margin_points"])
    crossed = break_even_table(evidence.results)
    frame = with_break_even(frame, crossed)
    links, pooled = links_of(store, frame), pooled_table(evidence.results)
    with (
        milestone_run(store, "m4", values, pair or "all pairs", parent) as milestone,
        tempfile.TemporaryDirectory() as place_of_files,
        tempfile.TemporaryDirectory() as place_of_pages,
    ):
        folder, pages = Path(place_of_files), Path(place_of_pages)
        found, curves, of_links = findings(frame), drawings(frame), link_drawings(links)
        said = [*found, *seed_sentences(pooled), *sentences(crossed), *link_sentences(links)]
        first, second = _halves(curves | of_links)
        with beside(partial(write_pictures, second, folder, pages)):
            write_pictures(first, folder, pages)
            written = write(frame, curves, crossed, evidence, said, store, folder)
            written += write_links(links, folder)
            written += [path for stem in of_links for path in files_of(stem, folder)]
            if not pooled.empty:
                written.append(folder / POOLED_FILE)
                csv_files.write_csv(pooled, written[-1])
        for path in written:
            milestone.writer.log_file(milestone.run_id, path)
        sets = _question_sets(frame, evidence)
        log_question_sets(store, milestone.run_id, sets)
        shown = [pages / f"{stem}.png" for stem in curves if is_on_page(stem)]
        pictures = log_pages(milestone, shown)
        log_table(milestone, frame, pictures=pictures, said=said)
        print(*map(_folded, found if parent else said), sep="\n")
        if parent:  # the whole study's result
            log_question_sets(store, parent.run_id, sets)
            log_pages(parent, shown)
            log_table(parent, frame, pictures=pictures, shown=False, said=said)
        place = redact_uri(store.client.get_run(milestone.run_id).info.artifact_uri)
        if values["output_dir"]:
            copy_out(values["output_dir"], "m4", written)
            place = values["output_dir"]
        print(f"open {place}/{REPORT_FILE} ({len(written)} files: pictures and tables beside it)")


def _halves(asked: Mapping[str, Drawing]) -> tuple[dict[str, Drawing], dict[str, Drawing]]:
    """The drawings for two processes: of those of one kind, which take as long, each gets half."""
    names = sorted(asked)
    return {name: asked[name] for name in names[::2]}, {name: asked[name] for name in names[1::2]}


def _question_sets(frame: pd.DataFrame, evidence: Evidence) -> dict[str, tuple[str, int, str]]:
    """The question sets that were answered, as far as their hashes are known."""
    known = frame.dropna(subset="dataset_hash").drop_duplicates("dataset")
    return {
        name: (
            content_hash,
            questions,
            evidence.datasets[name].source if name in evidence.datasets else "",
        )
        for name, content_hash, questions in zip(
            *(known[column].tolist() for column in ("dataset", "dataset_hash", "examples_total")),
            strict=True,
        )
    }


def load_curve(
    store: Store,
    sources: tuple[str, ...],
    pair: str | None,
    datasets: tuple[QuestionSet, ...] | None,
) -> pd.DataFrame:
    """The budget curve's table from all finished chunks, each example counted once. Nothing is
    downloaded: question sets that are not here lack their hashes, unless these are pinned."""
    return curve_of(gather(store, sources, pair, datasets, for_report=False), DEFAULT_MARGIN_POINTS)


def gather(
    store: Store,
    sources: tuple[str, ...],
    pair: str | None,
    datasets: tuple[QuestionSet, ...] | None,
    data_dir: Path | None = None,
    for_report: bool = True,
) -> Evidence:
    """All finished chunks of the newest identities, where they come from, and their questions,
    which a report shows: those are downloaded.

    Raises LatentWireError when there is no such chunk, or none that can be read.
    """
    found = {source: chunks_from(store, source, pair) for source in sources}
    chunks = [run for runs in found.values() for run in newest(runs)]
    asked = {str(each): each for each in datasets or ()}
    if asked:
        chunks = [run for run in chunks if run.data.params["dataset"] in asked]
    require_chunks(store, chunks, [" or ".join(sources), pair, ", ".join(asked)])
    read: dict[str, Dataset] = {}
    reasons, not_given = [], []
    contents = {
        run.data.params["dataset"]: run.data.params[DATASET_HASH]
        for run in chunks
        if DATASET_HASH in run.data.params
    }
    for name in dict.fromkeys(run.data.params["dataset"] for run in chunks):
        if name not in (*asked, *task_names()):
            not_given.append(name)
            continue
        try:
            read[name] = _as_answered(
                load_dataset(asked.get(name, name), data_dir, for_report), contents.get(name)
            )
        except LatentWireError as error:  # pictures and numbers need no prompts
            if for_report:
                log.warning("the report has no prompts of %s: %s", name, error)
            reasons.append(f"{name} ({error})")
    if not_given:  # what was asked is not kept with the answers
        reasons.append(f"{', '.join(not_given)}, of a file of your own: dataset=FILE gives it")
    pairs = {run.data.params["pair"] for run in chunks}
    identities = {
        name: count
        for runs in found.values()
        for name, count in identity_counts(runs).items()
        if count > 1 and name in pairs
    }
    answers = read_answers(store, chunks)
    require_some(answers)
    counted = [run for run, _ in answers.found]
    return Evidence(answers.results, origins(store, counted), identities, read, reasons, contents)


def _as_answered(dataset: Dataset, answered: str | None) -> Dataset:
    """The set, unless it is known to be another than the one that was answered."""
    if answered not in (None, dataset.hash):
        raise LatentWireError(f"{dataset.source} has changed since it was answered")
    return dataset


def curve_of(evidence: Evidence, margin_points: float) -> pd.DataFrame:
    """The budget curve's table, with the hashes of fusers and question sets."""
    frame = build_curve(evidence.results, margin_points=margin_points)
    hashes = {}
    for pair, dataset, source in frame[["pair", "dataset", "source"]].itertuples(index=False):
        known = evidence.datasets.get(dataset)
        value = evidence.contents.get(dataset) or (
            known.hash if known and dataset not in evidence.disagreeing else pinned_hash(dataset)
        )
        if value:
            hashes[pair, dataset, source] = value
    fusers = {
        (origin.pair, origin.source): origin.fuser_hash
        for origin in evidence.origins
        if origin.fuser_hash
    }
    return with_hashes(frame, fusers, hashes)


def write(
    frame: pd.DataFrame,
    asked: Iterable[str],
    crossed: pd.DataFrame,
    evidence: Evidence,
    said: Sequence[str],
    store: Store,
    folder: Path,
) -> list[Path]:
    """Write budget_curve.csv, its table in LaTeX, its lines as JSON, crossings.csv and report.html;
    paths, with those of the pictures that are `asked` for, which others write."""
    files = [
        write_latex(frame, folder),
        *(path for stem in asked for path in files_of(stem, folder)),
    ]
    files += write_lines(frame, folder)
    path = folder / CSV_FILE
    write_csv(frame, path)
    csv_files.write_csv(crossed, folder / CROSSINGS_FILE)
    shown = {(part.pair, part.dataset) for part in evidence.results if part.source == "local"}
    page = page_data(
        frame,
        evidence.results,
        evidence.datasets,
        evidence.origins,
        warning_sentences(
            frame, evidence.identities, evidence.without_prompts, evidence.disagreeing
        ),
        said,
        store.uri,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        found_regimes(store, shown, evidence.origins),
    )
    return [path, folder / CROSSINGS_FILE, *files, write_report(page, folder)]


def _folded(sentence: str) -> str:
    """A sentence as lines of a terminal."""
    return textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
