"""What M5 does: it trains interfaces with and without a codec in the loop, and compares them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from latentwire.analysis.csv_files import csv_text, write_csv
from latentwire.analysis.curve import REFERENCE_CODEC
from latentwire.analysis.frames import records
from latentwire.analysis.markdown import markdown_table
from latentwire.analysis.pictures import save_figure
from latentwire.analysis.recovery import Recovery, SeedOutcomes, recovery, recovery_table
from latentwire.analysis.recovery_figure import draw_recovery
from latentwire.analysis.reproduction.published_accuracies import bundled_study
from latentwire.analysis.stats import Outcomes
from latentwire.analysis.trained_pairs import IN_16_BITS, trained_name
from latentwire.channel.codec_names import needs_calibration
from latentwire.errors import LatentWireError
from latentwire.milestones import calibrate, m2, train
from latentwire.milestones.registry import run_milestone
from latentwire.pairs.load import load_pair
from latentwire.parameters import Values, completed
from latentwire.session.conclusion import stored_outcomes
from latentwire.session.milestone_run import MilestoneRun, session_run
from latentwire.session.session import Session
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.terminal import tell

TABLE = "recovery.csv"

Kept = dict[tuple[int, str, str, str], Outcomes]  # by seed, codec of training, dataset, codec


def run_on(session: Session) -> None:
    """Train, evaluate, compare. What earlier starts finished is not done again."""
    values = session.values
    codecs = _checked(values["codec"] or ())
    seeds = [values["seed"] + number for number in range(values["seeds"])]
    trainings = [(seed, codec) for seed in seeds for codec in ("", *codecs)]
    if values["dry_run"]:
        for seed, codec in trainings:
            wanted = _of_training(session.pair.name, values, seed, codec)
            run_milestone(train, session.under(wanted))
        return
    with session_run(session, "m5") as run:
        kept, part = Kept(), session.below(run)
        for seed, codec in trainings:
            wanted = _of_training(session.pair.name, values, seed, codec)
            tell(f"m5: seed {seed}, trained {_through(codec)}")
            run_milestone(train, part.under(wanted))
            pair = load_pair(str(wanted["output_dir"] / "pair.yaml"))
            trained = part.with_fuser_of(pair).under(_of_evaluation(values, codecs))
            if any(map(needs_calibration, codecs)):  # of layers whose gates are open in this one
                own = completed(calibrate.PARAMETERS, values)
                run_milestone(calibrate, trained.under(own))
            run_milestone(m2, trained)
            kept |= _answers(trained, seed, codec, codecs)
        found = [
            recovery(dataset, codec, [_outcomes(kept, seed, dataset, codec) for seed in seeds])
            for dataset in session.dataset_names
            for codec in codecs
        ]
        _report(session, run, found)


def _checked(codecs: Sequence[str]) -> tuple[str, ...]:
    """Each once; LatentWireError for none, and for one through which nothing can be trained."""
    if not codecs:
        raise LatentWireError("codec=: name the codecs to train through")
    if REFERENCE_CODEC in codecs:
        raise LatentWireError(
            f"codec={REFERENCE_CODEC}: a training in 16 bits is always made; name the others"
        )
    return tuple(dict.fromkeys(codecs))


def _of_training(pair: str, values: Values, seed: int, codec: str) -> Values:
    name = codec or IN_16_BITS
    own = {
        "codec": (codec,) if codec else None,
        "seed": seed,
        "output_dir": values["output_dir"] / f"seed{seed}-{name.replace('/', '_')}",
        "trained_pair": trained_name(pair, name, seed),
    }
    return completed(train.PARAMETERS, values | own)


def _of_evaluation(values: Values, codecs: tuple[str, ...]) -> Values:
    own = {"codec": (REFERENCE_CODEC, *codecs), "controls": ("matched",), "batch_size": 0}
    return completed(m2.PARAMETERS, values | own)


def _answers(trained: Session, seed: int, through: str, codecs: Iterable[str]) -> Kept:
    kept: Kept = {}
    for dataset in trained.dataset_names:
        for codec in (REFERENCE_CODEC, *codecs):
            condition = Condition(C2C, Channel(codec), "matched")
            kept[seed, through, dataset, codec] = stored_outcomes(trained, dataset, condition)
    return kept


def _outcomes(kept: Kept, seed: int, dataset: str, codec: str) -> SeedOutcomes:
    return SeedOutcomes(
        plain=kept[seed, "", dataset, REFERENCE_CODEC],
        coded=kept[seed, "", dataset, codec],
        trained=kept[seed, codec, dataset, codec],
    )


def _through(codec: str) -> str:
    return f"through {codec}" if codec else "in 16 bits"


def _report(session: Session, run: MilestoneRun, found: list[Recovery]) -> None:
    """The table, the figure and what they say, as artifacts and in the folder."""
    table = recovery_table(found)
    folder: Path = session.values["output_dir"]
    write_csv(table, folder / TABLE)
    run.writer.log_text(run.run_id, csv_text(table), TABLE)
    for path in save_figure(draw_recovery(found, session.pair.name), folder, "recovery"):
        run.writer.log_file(run.run_id, path)
    for row in records(table):
        names = f"{row['dataset']}_{row['codec'].replace('+', '_')}"  # MLflow takes no +
        numbers = {f"{names}_recovered_points": row["recovered_points"]}
        run.writer.log(run.run_id, metrics=numbers | {f"{names}_cost_points": row["cost_points"]})
    lines = _markdown(found, list(table["p_holm"]))
    study = bundled_study()
    published = [figure for figure in study.trained if figure.dataset in session.dataset_names]
    if published:
        told = (f"{100 * f.accuracy:.1f} % of {f.dataset} through {f.codec}" for f in published)
        lines += ["", f"As published ({study.name}), trained through the codec: {', '.join(told)}."]
    run.writer.set_description(run.run_id, "\n".join(lines))
    print("\n".join(lines), flush=True)


def _markdown(found: list[Recovery], adjusted: list[float]) -> list[str]:
    head = ("questions of", "codec", "16 bits %", "coded %", "trained %", "cost", "comes back", "p")
    rows = [
        (
            f"{one.questions} {one.dataset}",
            one.codec,
            *(f"{100 * a:.1f}" for a in (one.accuracy_plain, one.accuracy_coded)),
            f"{100 * one.accuracy_trained:.1f}",
            f"{100 * one.cost:.1f}",
            _points(one),
            f"{p:.3f}",
        )
        for one, p in zip(found, adjusted, strict=True)
    ]
    return markdown_table(head, rows)


def _points(one: Recovery) -> str:
    share = "" if one.cost <= 0 else f" ({100 * one.recovered_share:.0f} %)"
    ends = f"[{100 * one.recovered_low:+.1f}, {100 * one.recovered_high:+.1f}]"
    return f"{100 * one.recovered:+.1f} {ends}{share}"
