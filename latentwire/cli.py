"""The command `latentwire`: small tools beside the MLproject entry points."""

# What a command needs is imported in it: torch, MLflow and matplotlib take seconds each.

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from c2c.errors import printable
from c2c.files import read_file
from latentwire import __version__
from latentwire.cluster.options import OPTIONS
from latentwire.completion import complete, milestone_completer, parameter_completer
from latentwire.ending import BAD_INPUT, FAILED, end
from latentwire.errors import LatentWireError, first_line
from latentwire.listing import KINDS, listed, table
from latentwire.printable import PlainParser, printable_output
from latentwire.terminal import add_verbosity, prepare_output, set_verbosity, shown_log
from latentwire.user_files import output_folder, user_path

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # it takes a second to import
    from latentwire.analysis.curve import ConditionResult


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; its exit status. Bad input ends in one sentence and status 2."""
    parser = _parser()
    complete(parser)
    prepare_output()
    options = parser.parse_args(arguments)
    set_verbosity(options)
    try:
        for name in ("file", "config"):
            if getattr(options, name, None) is not None:
                setattr(options, name, user_path(getattr(options, name)))
        # A milestone shows what it logs itself.
        with printable_output(), nullcontext() if options.run is _run else _logged():
            options.run(options)
        sys.stdout.flush()
    except BaseException as error:
        status = end(error)
        return BAD_INPUT if status == FAILED else status
    return 0


def _parser() -> PlainParser:
    parser = PlainParser(prog="latentwire", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_verbosity(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_list(commands)
    packet = _command(commands, "packet", "print what a packet says and where its bytes go")
    packet.add_argument("file", help="a packet, as m1 logs them (packet.lwkv)")
    packet.set_defaults(run=_packet)
    calibration = _command(commands, "calibration", "print what a calibration was made from")
    calibration.add_argument("file", help="a file that `calibrate` has logged")
    calibration.set_defaults(run=_calibration)
    _add_submit(commands)
    _add_claims(commands)
    send = _command(commands, "export", "write a finished study to a file (docs/sharing.md)")
    send.add_argument("file", help="the file to make, such as study.zip")
    send.add_argument("--experiment", help="whose runs (default: latentwire)")
    send.add_argument("--all", action="store_true", help="FAILED, KILLED and open runs too")
    send.set_defaults(run=_export)
    receive = _command(commands, "import", "write a study from a file into another store")
    receive.add_argument("file", help="what `latentwire export` wrote")
    receive.add_argument("--experiment", help="where to (default: the study's own)")
    receive.set_defaults(run=_import)
    figures = _command(commands, "figures", "draw the figures of a budget_curve.csv again")
    figures.add_argument("file", help="budget_curve.csv, as m4 writes it")
    figures.add_argument("--output-dir", required=True, help="folder to write to")
    figures.add_argument("--width", choices=("page", "column"), default="page", help="of a paper")
    figures.set_defaults(run=_figures)
    _add_compare(commands)
    _add_nearest(commands)
    return parser


def _command(
    commands: "argparse._SubParsersAction[PlainParser]", name: str, help: str
) -> PlainParser:
    """A command that says what it does in its own help too."""
    return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")


def _add_run(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    run = commands.add_parser(
        "run", help="run a milestone, as `mlflow run . -e` does, from any folder"
    )
    entry = run.add_argument("entry", help="which: latentwire list milestones")
    entry.completer = milestone_completer  # type: ignore[attr-defined]
    given = run.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="-P NAME=VALUE ...",
        help="its parameters, also as --name value; --help lists them",
    )
    given.completer = parameter_completer  # type: ignore[attr-defined]
    run.set_defaults(run=_run)


def _add_list(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    listing = _command(commands, "list", "what there is, by name")
    listing.add_argument("what", nargs="?", choices=KINDS, help=", ".join(KINDS), metavar="WHAT")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)


def _add_submit(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    submit = _command(commands, "submit", "run an entry point on a Slurm cluster")
    entry = submit.add_argument("entry", help="the entry point: m0, m1, m2, m3, main, ...")
    entry.completer = milestone_completer  # type: ignore[attr-defined]
    given = submit.add_argument(
        *("-P", "--parameter"), dest="parameters", action="append", default=[], metavar="NAME=VALUE"
    )
    given.completer = parameter_completer  # type: ignore[attr-defined]
    submit.add_argument("--config", help="YAML file of the options below")
    for option in OPTIONS:
        flag = "--" + option.name.replace("_", "-")
        default = f" (default: {option.default or 'none'})"
        submit.add_argument(flag, dest=option.name, help=option.help + default)
    submit.add_argument(
        "--sbatch", action="append", default=[], help="a further option, as --sbatch=--qos=long"
    )
    submit.add_argument(
        "--then", choices=["m4"], help="submit this too, for when all tasks are done"
    )
    submit.add_argument("--dry-run", action="store_true", help="print the script, submit nothing")
    submit.set_defaults(run=_submit)


def _add_claims(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    claims = _command(commands, "claims", "judge claims about conditions by the answers")
    claims.add_argument("file", nargs="?", help="YAML; left out: the milestones' own")
    claims.add_argument("--pair", help="a pair of the tracking store (left out: every one)")
    claims.add_argument("--source", choices=("local", "published"), default="local")
    claims.add_argument("--json", action="store_true", help="print JSON")
    claims.set_defaults(run=_claims)


def _add_compare(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    compare = _command(commands, "compare", "one budget curve against another, on average")
    compare.add_argument("first", help="its conditions, such as codec=int8,order=front")
    compare.add_argument("second", help="those of the other (docs/compare.md)")
    compare.add_argument("--best", action="store_true", help="of each, the best at no more bytes")
    _add_answers(compare)
    compare.set_defaults(run=_compare)


def _add_nearest(commands: "argparse._SubParsersAction[PlainParser]") -> None:
    nearest = _command(commands, "nearest", "which condition to use (docs/compare.md)")
    nearest.add_argument("--bytes", type=float, help="at most so many a question, on average")
    nearest.add_argument("--accuracy", type=float, help="at least so much (or F1), in %%")
    nearest.add_argument("--among", help="conditions, such as codec=int* (default: any cache)")
    _add_answers(nearest)
    nearest.set_defaults(run=_nearest)


def _add_answers(command: argparse.ArgumentParser) -> None:
    """Whose answers are looked at, and how they are printed."""
    command.add_argument("--dataset", help="a question set (left out: every one)")
    command.add_argument("--pair", help="a pair of the tracking store (left out: every one)")
    command.add_argument("--source", choices=("local", "published"), default="local")
    command.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as entry_points/run.py says
    from latentwire.run_entry_point import RUN, main

    main(RUN, [options.entry, *options.options], "latentwire run")


def _list(options: argparse.Namespace) -> None:
    if options.what is None:
        raise LatentWireError(f"list what? {', '.join(KINDS)}: latentwire list {KINDS[0]}")
    found = listed(options.what)
    if options.json:
        print(json.dumps([{"name": n, "about": a} for names, a in found for n in names], indent=1))
    else:
        print(table(found), end="")


@contextmanager
def _logged() -> Iterator[None]:
    """Show what is logged in the block."""
    shown, log = shown_log(), logging.getLogger("latentwire")
    log.addHandler(shown)
    try:
        yield
    finally:
        log.removeHandler(shown)


def _submit(options: argparse.Namespace) -> None:
    from latentwire.cluster.submit import submit

    submit(options)


def _packet(options: argparse.Namespace) -> None:
    from latentwire.channel.describe import describe

    with _naming(options.file):
        print(describe(read_file(options.file)))


def _calibration(options: argparse.Namespace) -> None:
    from latentwire.channel.calibration import from_bytes

    with _naming(options.file):
        found = from_bytes(read_file(options.file), str(options.file))
    print(f"sha256: {found.hash}")
    for name, value in sorted(found.about.items()):
        print(f"{printable(name)}: {printable(value)}")


def _figures(options: argparse.Namespace) -> None:
    folder = output_folder(options.output_dir)  # before what takes seconds
    from latentwire.analysis.bandwidth_figure import link_figures_from_csv
    from latentwire.analysis.break_even_bandwidth import LINKS_FILE
    from latentwire.analysis.curve_files import figures_from_csv
    from latentwire.analysis.output_folder import record_written
    from latentwire.analysis.picture_width import Width

    is_links = options.file.name == LINKS_FILE
    draw = link_figures_from_csv if is_links else figures_from_csv
    written = draw(options.file, folder, Width(options.width))
    for path in written:
        print(f"written: {path}")
    writer = "figures of links" if is_links else "figures of a budget curve"
    left = record_written(folder, writer, written)
    if left:
        print(f"warning: {printable(left)}", file=sys.stderr)


def _claims(options: argparse.Namespace) -> None:
    from latentwire.analysis.claims import claim, judge, report
    from latentwire.tracking.results_reader import newest_results
    from latentwire.tracking.store import open_store

    files = [claim.load_claims(options.file)] if options.file else claim.shipped_claims()
    if options.pair:
        if options.file and files[0].pair not in (None, options.pair):
            raise LatentWireError(f"{options.file} is about {files[0].pair}, not {options.pair}")
        files = [replace(f, pair=options.pair) for f in files if f.pair in (None, options.pair)]
    # Claims on trainings are about pairs with names of their own.
    searched = None if any(file.trainings for file in files) else options.pair
    with _naming_refusals():
        found = newest_results(
            open_store(), options.source, searched, lambda params: judge.is_claimed(files, params)
        )
    judged = judge.judge_files(files, found, options.source)
    if options.json:
        print(json.dumps(report.as_json(judged, options.source), indent=1, allow_nan=False))
    else:
        print(report.render(judged, options.source), end="")


def _compare(options: argparse.Namespace) -> None:
    from latentwire.spec.condition_filter import condition_filter

    filters = condition_filter(options.first), condition_filter(options.second)
    from latentwire.analysis.curve_comparison import compare_curves
    from latentwire.analysis.curve_comparison_report import as_json, render

    results = _answers(options, lambda run: any(each.takes_run(run) for each in filters))
    found, refused = compare_curves(results, *filters, best=options.best)
    if options.json:
        print(json.dumps(as_json(found, filters), indent=1, allow_nan=False))
    else:
        print(render(found, refused, filters), end="")


def _nearest(options: argparse.Namespace) -> None:
    from latentwire.analysis.nearest import ASKED, CACHES, Wanted, choose
    from latentwire.analysis.nearest_report import as_json, render
    from latentwire.spec.condition_filter import condition_filter

    given = {"bytes": options.bytes, "accuracy": options.accuracy}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits or not all(0 < value < math.inf for value in limits.values()):
        raise LatentWireError("give --bytes or --accuracy (or both), a number above 0")
    if limits.get("accuracy", 1) < 1:
        log.warning(
            "--accuracy is in per cent: %g is %g %% of the questions", *[limits["accuracy"]] * 2
        )
    wanted = Wanted(
        limits.get("bytes", math.inf),
        limits.get("accuracy", 0) / 100,
        condition_filter(options.among) if options.among else CACHES,
    )
    choices = choose(_answers(options, lambda run: run["control"] in ASKED), wanted)
    if not any(choice.row for choice in choices):
        raise LatentWireError(
            *(f"{choice.dataset}, {choice.pair}: {choice.notes[0]}" for choice in choices)
        )
    if options.json:
        print(json.dumps(as_json(choices), indent=1, allow_nan=False))
    else:
        print(render(choices, wanted), end="")


def _answers(
    options: argparse.Namespace, wanted: Callable[[Mapping[str, str]], bool]
) -> "list[ConditionResult]":
    """The answers of the runs whose parameters are wanted, of one question set or of all."""
    from latentwire.api import answers
    from latentwire.tracking.store import open_store

    with _naming_refusals():
        return answers(open_store(), options.source, options.pair, options.dataset, wanted)


@contextmanager
def _naming_refusals() -> Iterator[None]:
    """Say in a sentence what the tracking store refuses, without a progress bar a file."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        reason = first_line(error)
        raise LatentWireError(f"the tracking store refused a request: {reason}") from None


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Say which file an error is about."""
    try:
        yield
    except OSError as error:
        raise LatentWireError(f"{file} cannot be read: {error.strerror}") from None
    except LatentWireError as error:
        raise LatentWireError(f"{file}: {error}") from None


def _export(options: argparse.Namespace) -> None:
    from latentwire.tracking.export_import import export_study
    from latentwire.tracking.store import open_store

    store = open_store(options.experiment, create=False)
    done = export_study(store, options.file, options.all)
    print(
        f"{options.file}: {done.written} runs, {options.file.stat().st_size} bytes,"
        f" {done.answers} answers in {done.chunks} chunks"
    )


def _import(options: argparse.Namespace) -> None:
    from latentwire.tracking.archive import open_study
    from latentwire.tracking.export_import import import_study
    from latentwire.tracking.store import open_store

    with _naming(options.file), open_study(options.file) as study:
        done = import_study(open_store(options.experiment or study.experiment), study)
    left = f", {done.left_out} left out" if done.left_out else ""
    print(f"{options.file}: {done.written} runs written, {done.held} were there already{left}")


if __name__ == "__main__":
    sys.exit(main())
