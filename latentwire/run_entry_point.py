"""What all entry points share: parameters in, one sentence on bad input, an exit status out."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from latentwire import __version__
from latentwire.ending import end
from latentwire.errors import LatentWireError
from latentwire.milestones.registry import Milestone, load_milestone, questions
from latentwire.printable import PlainParser, printable_output
from latentwire.session.torchrun import dismiss, follow, leave, rank_and_count
from latentwire.terminal import (
    add_verbosity,
    never_silent,
    prepare_output,
    set_verbosity,
    shown_log,
)
from latentwire.tracking.signals import raise_on_sigterm, reraise_swallowed_signals

RUN = "run"  # the name of the file that takes a milestone's name


def main(called: str, arguments: Sequence[str], program: str = "") -> NoReturn:
    """Run the milestone that the command line names, with its parameters, and exit.

    `called` is the name of the file that was started, without `.py`: `run`, or a milestone's.
    `program` is what usage lines call it; the file's name unless given.
    """
    prepare_output()
    rank, count = rank_and_count()
    if rank:  # what there is to do, the first process tells
        _quiet()
        follow(_take_part)
    try:
        name, program, options = chosen(called, arguments, program)
        milestone = load_milestone(name)
        if count > 1 and not milestone.trains:
            raise LatentWireError(f"{name} does not train: start it without torchrun")
        with _failure_kept(name):
            _start(milestone, program, options)
    except LatentWireError as error:
        sys.exit(end(error))
    except SystemExit as ending:
        if count > 1 and ending.code:  # torchrun ends the other processes
            leave(int(ending.code))
        dismiss()
        raise
    except BaseException as error:
        if count == 1:
            raise
        sys.excepthook(type(error), error, error.__traceback__)
        leave(1)


def chosen(
    called: str, arguments: Sequence[str], program: str = ""
) -> tuple[str, str, Sequence[str]]:
    """The milestone's name, what a usage line calls the program, and the milestone's options."""
    program = program or f"{called}.py"
    if called != RUN:
        return called, program, arguments
    if arguments and not arguments[0].startswith("-"):  # the list below is read from all files
        return arguments[0], f"{program} {arguments[0]}", arguments[1:]
    listed = "".join(f"\n  {name:<10} {asked}" for name, asked in questions().items())
    chooser = PlainParser(
        prog=program,
        usage="%(prog)s NAME [--parameter value ...]",
        description="Run a milestone; NAME --help lists its parameters.",
        epilog=f"names:{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chooser.add_argument("name", metavar="NAME", help="which milestone")
    chooser.add_argument("--version", action="version", version=f"latentwire {__version__}")
    name = chooser.parse_args(arguments[:1]).name
    return name, f"{program} {name}", arguments[1:]


def _start(milestone: Milestone, program: str, options: Sequence[str]) -> NoReturn:
    from latentwire.parameters import checked, parser

    made = parser(milestone.parameters, milestone.description, program)
    _add_general(made)
    given = made.parse_args(options)
    set_verbosity(given)
    if given.experiment_name:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = given.experiment_name
    values = checked(milestone.parameters, vars(given) | _by_name(milestone, given.parameters))
    raise_on_sigterm()
    reraise_swallowed_signals()
    _quiet()
    try:
        with printable_output(), _failure_kept(milestone.name), never_silent(milestone.name):
            milestone.run(values)
        sys.stdout.flush()
    except BaseException as error:
        sys.exit(end(error, kept="finished chunks are kept, "))
    sys.exit(0)


@contextmanager
def _failure_kept(name: str) -> Iterator[None]:
    """Have the run that `mlflow run` has made say what ended the block, if nothing has taken it."""
    try:
        yield
    except Exception as error:
        if os.environ.get("MLFLOW_RUN_ID"):
            from latentwire.session.milestone_run import tell_failure

            tell_failure(name, error)
        raise


def _add_general(parser: argparse.ArgumentParser) -> None:
    """Options that no milestone declares."""
    general = parser.add_argument_group("options of the command itself")
    general.add_argument(
        *("-P", "--parameter"),
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, as `mlflow run` takes it",
    )
    general.add_argument("--experiment-name", help="where runs go (default: latentwire)")
    add_verbosity(parser)


def _by_name(milestone: Milestone, texts: Sequence[str]) -> dict[str, str]:
    """What was given as NAME=VALUE; LatentWireError for what the milestone does not take."""
    if not texts:
        return {}
    from latentwire.cluster.entry_point import given_parameters, require_known

    given = given_parameters(texts)
    require_known([milestone], given)
    return given


def _take_part() -> Callable[..., None]:
    from latentwire.milestones.training_run import take_part

    return take_part


def quiet_libraries() -> None:
    """Keep other libraries' progress bars and chatter out of what is shown and logged."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar per file
    warnings.filterwarnings("ignore", module="mlflow")
    # It logs the traceback of an error that it raises as well; we say that one in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers heeds it, too
    # Milestones write what is logged to a file.
    logging.getLogger("latentwire").setLevel(logging.INFO)


def _quiet() -> None:
    quiet_libraries()
    # What is amiss is shown as well.
    logging.getLogger("latentwire").addHandler(shown_log())
