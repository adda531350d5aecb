"""M1's measurements of codecs on a pair's real caches: which are missing, each made once."""

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from mlflow.entities import Run

from latentwire.analysis.codec_figures import draw_layer_errors
from latentwire.analysis.codec_summary import codec_headline, codec_note
from latentwire.analysis.csv_files import csv_text
from latentwire.analysis.curve_files import PAGE_DPI
from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.pictures import save_png
from latentwire.analysis.rate_distortion_figure import draw_rate_distortion
from latentwire.analysis.safe_names import file_names
from latentwire.channel.codec_names import bits_label, needs_calibration
from latentwire.channel.registry import EXAMPLES, NAMES
from latentwire.errors import LatentWireError, Unanswerable, first_line
from latentwire.evaluation.codec_measurement import Look, measure, undamaged
from latentwire.evaluation.unanswerable import readable
from latentwire.milestones.latency import measure_link_times, plan_link_times
from latentwire.parameters import AUTO
from latentwire.session.cost_estimate import codec_throughput, print_cost
from latentwire.session.curve_log import PICTURES
from latentwire.session.grid import question_sets
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.progress_lines import shown_progress
from latentwire.session.session import Session
from latentwire.spec.condition import Channel
from latentwire.terminal import tell
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.dataset_inputs import log_question_sets
from latentwire.tracking.finished_chunks import finished_runs
from latentwire.tracking.leases import run_exclusively
from latentwire.tracking.runs import CODEC_LEVEL, FINGERPRINT, artifact_address, digest_of

log = logging.getLogger("latentwire")

# Of measurements off the CPU: 2 since the clock waits for it, 3 since packets are made there
CLOCK = 3
LAYERS_FILE = "layers.json"
PACKET_FILE = "packet.lwkv"
# The metrics' names are too long for a terminal; files keep them.
TITLES = {
    "key_error_mean": "K error",
    "value_error_mean": "V error",
    "kl_nats_mean": "KL (nats)",
    "same_token_share": "same token",
    "wire_bytes_mean": "bytes",
    "bits_per_element": "bits",
    "encode_ms_mean": "encode (ms)",
    "decode_ms_mean": "decode (ms)",
}


@dataclass(frozen=True)
class _Item:
    """A codec on a dataset's first questions."""

    dataset: str
    channel: Channel
    fingerprint: str

    @property
    def codec(self) -> str:
        return self.channel.codec


def run_on(session: Session) -> None:
    """Measure every codec asked for that is not measured yet, and say what all of them gave."""
    if session.values["dry_run"] and not session.is_local():
        print(f"m1: the files of {session.pair.name} are not here yet; a run downloads them first")
        print_cost(session, None, codec_throughput(session), "measurement")
        return
    channels = _channels(session)
    items = [
        _item(session, dataset, channel)
        for dataset in session.dataset_names
        for channel in channels
    ]
    finished = {item: _finished(session, item) for item in items}
    missing = [item for item, found in finished.items() if found is None]
    tell(f"m1: {len(items) - len(missing)} of {len(items)} codec measurements are finished")
    if session.values["dry_run"]:
        for item in items:
            print(f"  {item.dataset:<12} {item.codec:<34} {'' if item in missing else 'finished'}")
        pace = codec_throughput(session)
        questions = sum(_sample(session, item.dataset) for item in missing)
        print(f"  to do: {len(missing)} measurements of {questions} questions in all")
        print(f"  and the times beside them of {len(plan_link_times(session))} datasets")
        print_cost(session, pace.time_for(questions), pace, "measurement")
        return
    with session_run(session, "m1") as milestone:
        log_checkpoints(milestone, session)
        sets = question_sets(session, session.dataset_names)
        log_question_sets(session.store, milestone.run_id, sets)
        _measure_missing(session, milestone, finished)
        measure_link_times(session, milestone)
        _conclude(session, milestone, finished)


def _channels(session: Session) -> list[Channel]:
    """The whole cache through each codec asked for; of all codecs, those that can be used."""
    values = session.values
    names = values["codec"] or (*NAMES, *EXAMPLES)
    try:
        return [session.calibrated_channel(Channel(name)) for name in names]
    except LatentWireError as error:
        if values["codec"] or values["calibration"] != AUTO:
            raise
        left_out = [name for name in names if needs_calibration(name)]
        print(f"m1: {error}; left out: {', '.join(left_out)}")
        rest = [name for name in names if name not in left_out]
        return [session.calibrated_channel(Channel(name)) for name in rest]


def _item(session: Session, dataset: str, channel: Channel) -> _Item:
    content = {
        "milestone": "m1",
        "setting": session.setting(dataset).identity(),
        "dataset": session.dataset(dataset).hash,
        "codec": channel.codec,
        "sample": _sample(session, dataset),
        "device": session.device.partition(":")[0],  # times differ
    }
    if session.device != "cpu":
        content["clock"] = CLOCK
    if channel.calibration:
        content["calibration"] = channel.calibration
    if channel.alignment:
        content["alignment"] = channel.alignment
    return _Item(dataset, channel, digest_of(content))


def _sample(session: Session, dataset: str) -> int:
    return min(session.values["sample"], session.examples(dataset))


def _finished(session: Session, item: _Item) -> Run | None:
    """The oldest finished measurement that can be read."""
    for run in finished_runs(session.store, CODEC_LEVEL, item.fingerprint):
        try:
            _layer_errors(session, run)
            return run
        except LatentWireError as error:
            log.warning("%s: it does not count", error)
    return None


def _measure_missing(
    session: Session, milestone: MilestoneRun, found: dict[_Item, Run | None]
) -> None:
    """Measure what no process has measured, and wait for what others are measuring."""
    missing = [item for item, run in found.items() if run is None]
    if not missing:
        return
    look = cache(lambda: undamaged(session.loaded))  # nothing is loaded that others have measured
    with (
        shown_progress(len(missing), "m1", "measurement") as bar,
        milestone.leases.until_done() as leases,
    ):
        for item, run in run_exclusively(
            leases,
            missing,
            lambda item: f"codec:{item.fingerprint}",
            lambda item: _finished(session, item),
            lambda item: _measure(session, milestone, item, look()),
        ):
            found[item] = run
            bar.update()


def _measure(session: Session, milestone: MilestoneRun, item: _Item, look: Look) -> Run | None:
    """Measure one codec; None where it can send no question's cache, which its run says."""
    chosen = session.asked(item.dataset)[: _sample(session, item.dataset)]
    questions = [question.under(item.channel.alignment) for question in chosen]
    params = {
        "pair": session.pair.name,
        "dataset": item.dataset,
        "codec": item.codec,
        "kv_bits": bits_label(item.codec),
        "sample": str(len(questions)),
        "dtype": session.dtype_name,
    }
    tags = {FINGERPRINT: item.fingerprint}
    run_id = milestone.writer.start(
        f"{item.dataset} {item.codec}", CODEC_LEVEL, milestone.run_id, params, tags
    )
    asked = readable(session.loaded, questions)
    try:
        found, packet = measure(session.loaded, item.channel, asked, look)
    except Unanswerable as reason:
        log.warning("m1: %s on %s is left out: %s", item.codec, item.dataset, reason)
        milestone.writer.set_description(run_id, f"Left out: {reason}")
        milestone.writer.finish(run_id, status="FAILED")
        return None
    milestone.writer.log_bytes(run_id, packet, PACKET_FILE)
    milestone.writer.log_text(run_id, json.dumps(asdict(found), indent=2), LAYERS_FILE)
    milestone.writer.finish(run_id, found.metrics())
    return session.store.client.get_run(run_id)


def _conclude(session: Session, milestone: MilestoneRun, found: dict[_Item, Run | None]) -> None:
    rows, layers = [], []
    for item, run in found.items():
        if run is None:
            continue
        point = {"dataset": item.dataset, "codec": item.codec}
        rows.append({**point, **run.data.metrics})
        for kind, errors in _layer_errors(session, run).items():
            layers += [
                {**point, "kind": kind, "layer": int(layer), "relative_error": error}
                for layer, error in errors.items()
            ]
    if not rows:
        raise LatentWireError("m1: no codec can send any of the questions' caches, see above")
    table, by_layer = pd.DataFrame(rows), pd.DataFrame(layers)
    told = table.assign(wire_bytes_mean=table["wire_bytes_mean"].map(human_bytes))
    text = told.rename(columns=TITLES).to_string(
        index=False, float_format=lambda number: f"{number:.3g}"
    )
    if not milestone.is_part:
        print(text)
    writer, run_id = milestone.writer, milestone.run_id
    writer.log_text(run_id, text, "table.txt")
    writer.log_text(run_id, csv_text(table), "codecs.csv")
    writer.log_text(run_id, csv_text(by_layer), "codec_error_by_layer.csv")
    writer.log(run_id, metrics=codec_headline(table))
    names = file_names((dataset,) for dataset in table["dataset"])
    pictures = [f"{PICTURES}/rate_distortion_{name}.png" for name in names.values()]
    places = [artifact_address(run_id, picture) for picture in pictures]
    writer.set_description(run_id, codec_note(table, TITLES, places))
    with tempfile.TemporaryDirectory() as folder:
        for dataset in by_layer["dataset"].unique():
            path = Path(folder) / f"codec_error_{names[dataset,]}.png"
            part = by_layer[by_layer["dataset"] == dataset]
            save_png(draw_layer_errors(part, dataset, session.pair.name), path)
            writer.log_file(run_id, path)
            path = Path(folder) / f"rate_distortion_{names[dataset,]}.png"
            rates = table[table["dataset"] == dataset]
            figure = draw_rate_distortion(rates, dataset, session.pair.name)
            save_png(figure, path)
            writer.log_file(run_id, path)
            save_png(figure, path, PAGE_DPI)
            writer.log_file(run_id, path, PICTURES)


def _layer_errors(session: Session, run: Run) -> dict[str, dict[str, float]]:
    run_id = run.info.run_id
    try:
        with local_artifact(session.store, run, LAYERS_FILE) as path:
            content = json.loads(path.read_text())
        return {
            kind: {layer: float(error) for layer, error in content[f"{kind}_error"].items()}
            for kind in ("key", "value")
        }
    except Exception as error:  # every artifact store has failures of its own
        raise LatentWireError(
            f"codec run {run_id}: {LAYERS_FILE} cannot be read ({first_line(error)})"
        ) from error
