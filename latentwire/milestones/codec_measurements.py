"""M1's measurements of codecs on a pair's real caches: which are missing, each made once."""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from tqdm import tqdm

from latentwire.analysis.codec_error import Look, example_packet, measure, undamaged
from latentwire.analysis.codec_figures import draw_layer_errors
from latentwire.analysis.codec_summary import codec_headline, codec_note
from latentwire.analysis.csv_files import csv_text
from latentwire.analysis.curve_files import PAGE_DPI
from latentwire.analysis.pictures import save_png
from latentwire.analysis.rate_figures import draw_rate_distortion
from latentwire.analysis.safe_names import file_names
from latentwire.channel.registry import EXAMPLES, NAMES, bits_label, needs_calibration
from latentwire.errors import LatentWireError, Unanswerable, first_line
from latentwire.evaluation.unanswerable import readable
from latentwire.milestones.grid import PICTURES, question_sets
from latentwire.milestones.link_times import measure_link_times, plan_link_times
from latentwire.milestones.milestone import MilestoneRun, log_checkpoints, milestone_run
from latentwire.milestones.plan import codec_pace, print_cost
from latentwire.milestones.study import Study, log
from latentwire.parameters import AUTO, Values
from latentwire.spec.condition import Channel
from latentwire.tracking.artifacts import local_artifact
from latentwire.tracking.inputs import log_question_sets
from latentwire.tracking.once import each_once
from latentwire.tracking.resume import finished_runs
from latentwire.tracking.runs import CODEC_LEVEL, FINGERPRINT, artifact_address, digest_of

CLOCK = 2  # of measurements off the CPU: 2 since the clock waits for the device
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


def measure_codecs(study: Study, values: Values, parent: MilestoneRun | None = None) -> None:
    """Measure every codec asked for that is not measured yet, and say what all of them gave."""
    if values["dry_run"] and not study.is_local():
        print(f"m1: the files of {study.pair.name} are not here yet; a run downloads them first")
        print_cost(study, None, codec_pace(study), "measurement")
        return
    channels = _channels(study, values)
    items = [
        _item(study, values, dataset, channel)
        for dataset in study.dataset_names
        for channel in channels
    ]
    finished = {item: _finished(study, item) for item in items}
    missing = [item for item, found in finished.items() if found is None]
    print(f"m1: {len(items) - len(missing)} of {len(items)} codec measurements are finished")
    if values["dry_run"]:
        for item in items:
            print(f"  {item.dataset:<12} {item.codec:<34} {'' if item in missing else 'finished'}")
        pace = codec_pace(study)
        questions = sum(_sample(study, values, item.dataset) for item in missing)
        print(f"  to do: {len(missing)} measurements of {questions} questions in all")
        print(f"  and the times beside them of {len(plan_link_times(study, values))} datasets")
        print_cost(study, pace.time_for(questions), pace, "measurement")
        return
    with milestone_run(
        study.store, "m1", study.resolved(values), study.pair.name, parent
    ) as milestone:
        log_checkpoints(milestone, study)
        sets = question_sets(study, study.dataset_names)
        log_question_sets(study.store, milestone.run_id, sets)
        _measure_missing(study, values, milestone, finished)
        measure_link_times(study, values, milestone)
        _conclude(study, milestone, finished)


def _channels(study: Study, values: Values) -> list[Channel]:
    """The whole cache through each codec asked for; of all codecs, those that can be used."""
    names = values["codec"] or (*NAMES, *EXAMPLES)
    try:
        return [study.calibrated_channel(Channel(name)) for name in names]
    except LatentWireError as error:
        if values["codec"] or values["calibration"] != AUTO:
            raise
        left_out = [name for name in names if needs_calibration(name)]
        print(f"m1: {error}; left out: {', '.join(left_out)}")
        return [Channel(name) for name in names if name not in left_out]


def _item(study: Study, values: Values, dataset: str, channel: Channel) -> _Item:
    content = {
        "milestone": "m1",
        "setting": study.setting(dataset).identity(),
        "dataset": study.dataset(dataset).hash,
        "codec": channel.codec,
        "sample": _sample(study, values, dataset),
        "device": study.device.partition(":")[0],  # times differ
    }
    if study.device != "cpu":
        content["clock"] = CLOCK
    if channel.calibration:
        content["calibration"] = channel.calibration
    return _Item(dataset, channel, digest_of(content))


def _sample(study: Study, values: Values, dataset: str) -> int:
    return min(values["sample"], study.examples(dataset))


def _finished(study: Study, item: _Item) -> Run | None:
    """The oldest finished measurement that can be read."""
    for run in finished_runs(study.store, CODEC_LEVEL, item.fingerprint):
        try:
            _layer_errors(study, run)
            return run
        except LatentWireError as error:
            log.warning("%s: it does not count", error)
    return None


def _measure_missing(
    study: Study, values: Values, milestone: MilestoneRun, found: dict[_Item, Run | None]
) -> None:
    """Measure what no process has measured, and wait for what others are measuring."""
    missing = [item for item, run in found.items() if run is None]
    if not missing:
        return
    look = cache(lambda: undamaged(study.loaded))  # nothing is loaded that others have measured
    with (
        tqdm(total=len(missing), desc="m1", unit="codec", disable=not sys.stderr.isatty()) as bar,
        milestone.claims.until_done() as claims,
    ):
        for item, run in each_once(
            claims,
            missing,
            lambda item: f"codec:{item.fingerprint}",
            lambda item: _finished(study, item),
            lambda item: _measure(study, values, milestone, item, look()),
        ):
            found[item] = run
            bar.update()


def _measure(
    study: Study, values: Values, milestone: MilestoneRun, item: _Item, look: Look
) -> Run | None:
    """Measure one codec; None where it can send no question's cache, which its run says."""
    questions = study.questions(item.dataset)[0][: _sample(study, values, item.dataset)]
    params = {
        "pair": study.pair.name,
        "dataset": item.dataset,
        "codec": item.codec,
        "kv_bits": bits_label(item.codec),
        "sample": str(len(questions)),
        "dtype": str(study.dtype).removeprefix("torch."),
    }
    tags = {FINGERPRINT: item.fingerprint}
    run_id = milestone.writer.start(
        f"{item.dataset} {item.codec}", CODEC_LEVEL, milestone.run_id, params, tags
    )
    asked = readable(study.loaded, questions)
    try:
        found = measure(study.loaded, item.channel, asked, look)
    except Unanswerable as reason:
        log.warning("m1: %s on %s is left out: %s", item.codec, item.dataset, reason)
        milestone.writer.note(run_id, f"Left out: {reason}")
        milestone.writer.finish(run_id, status="FAILED")
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PACKET_FILE
        path.write_bytes(example_packet(study.loaded, item.channel, asked, look))
        milestone.writer.log_file(run_id, path)
    milestone.writer.log_text(run_id, json.dumps(asdict(found), indent=2), LAYERS_FILE)
    milestone.writer.finish(run_id, found.metrics())
    return study.store.client.get_run(run_id)


def _conclude(study: Study, milestone: MilestoneRun, found: dict[_Item, Run | None]) -> None:
    rows, layers = [], []
    for item, run in found.items():
        if run is None:
            continue
        point = {"dataset": item.dataset, "codec": item.codec}
        rows.append({**point, **run.data.metrics})
        for kind, errors in _layer_errors(study, run).items():
            layers += [
                {**point, "kind": kind, "layer": int(layer), "relative_error": error}
                for layer, error in errors.items()
            ]
    if not rows:
        raise LatentWireError("m1: no codec can send any of the questions' caches, see above")
    table, by_layer = pd.DataFrame(rows), pd.DataFrame(layers)
    text = table.rename(columns=TITLES).to_string(
        index=False, float_format=lambda number: f"{number:.3g}"
    )
    print(text)
    writer, run_id = milestone.writer, milestone.run_id
    writer.log_text(run_id, text, "table.txt")
    writer.log_text(run_id, csv_text(table), "codecs.csv")
    writer.log_text(run_id, csv_text(by_layer), "codec_error_by_layer.csv")
    writer.log(run_id, metrics=codec_headline(table))
    names = file_names((dataset,) for dataset in table["dataset"])
    pictures = [f"{PICTURES}/rate_distortion_{name}.png" for name in names.values()]
    places = [artifact_address(run_id, picture) for picture in pictures]
    writer.note(run_id, codec_note(table, TITLES, places))
    with tempfile.TemporaryDirectory() as folder:
        for dataset in by_layer["dataset"].unique():
            path = Path(folder) / f"codec_error_{names[dataset,]}.png"
            part = by_layer[by_layer["dataset"] == dataset]
            save_png(draw_layer_errors(part, dataset, study.pair.name), path)
            writer.log_file(run_id, path)
            path = Path(folder) / f"rate_distortion_{names[dataset,]}.png"
            rates = table[table["dataset"] == dataset]
            figure = draw_rate_distortion(rates, dataset, study.pair.name)
            save_png(figure, path)
            writer.log_file(run_id, path)
            save_png(figure, path, PAGE_DPI)
            writer.log_file(run_id, path, PICTURES)


def _layer_errors(study: Study, run: Run) -> dict[str, dict[str, float]]:
    run_id = run.info.run_id
    try:
        with local_artifact(study.store, run, LAYERS_FILE) as path:
            content = json.loads(path.read_text())
        return {
            kind: {layer: float(error) for layer, error in content[f"{kind}_error"].items()}
            for kind in ("key", "value")
        }
    except Exception as error:  # every artifact store has failures of its own
        raise LatentWireError(
            f"codec run {run_id}: {LAYERS_FILE} cannot be read ({first_line(error)})"
        ) from error
