"""What all entry points share: parameters in, one sentence on bad input, an exit status out."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from latentwire.ending import end
from latentwire.errors import LatentWireError
from latentwire.milestones.registry import Milestone, load_milestone, questions
from latentwire.printable import PlainParser, printable_output
from latentwire.session.torchrun import dismiss, follow, leave, rank_and_count
from latentwire.terminal import PlainLines, prepare_output
from latentwire.tracking.signals import raise_on_sigterm, reraise_swallowed_signals

RUN = "run"  # the name of the file that takes a milestone's name


def main(called: str, arguments: Sequence[str]) -> NoReturn:
    """Run the milestone that the command line names, with its parameters, and exit.

    `called` is the name of the file that was started, without `.py`: `run`, or a milestone's.
    """
    prepare_output()
    rank, count = rank_and_count()
    if rank:  # what there is to do, the first process tells
        _quiet()
        follow(_take_part)
    try:
        name, program, options = chosen(called, arguments)
        milestone = load_milestone(name)
        if count > 1 and not milestone.trains:
            raise LatentWireError(f"{name} does not train: start it without torchrun")
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


def chosen(called: str, arguments: Sequence[str]) -> tuple[str, str, Sequence[str]]:
    """The milestone's name, what a usage line calls the program, and the milestone's options."""
    if called != RUN:
        return called, f"{called}.py", arguments
    listed = "".join(f"\n  {name:<10} {asked}" for name, asked in questions().items())
    chooser = PlainParser(
        prog=f"{RUN}.py",
        usage="%(prog)s NAME [--parameter value ...]",
        description="Run a milestone; NAME --help lists its parameters.",
        epilog=f"names:{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chooser.add_argument("name", metavar="NAME", help="which milestone")
    name = chooser.parse_args(arguments[:1]).name
    return name, f"{RUN}.py {name}", arguments[1:]


def _start(milestone: Milestone, program: str, options: Sequence[str]) -> NoReturn:
    from latentwire.parameters import checked, parser

    made = parser(milestone.parameters, milestone.description, program)
    texts = vars(made.parse_args(options))
    raise_on_sigterm()
    reraise_swallowed_signals()
    _quiet()
    try:
        with printable_output():
            milestone.run(checked(milestone.parameters, texts))
        sys.stdout.flush()
    except BaseException as error:
        sys.exit(end(error, kept="finished chunks are kept, "))
    sys.exit(0)


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
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    shown.setFormatter(PlainLines("warning: %(message)s"))
    logging.getLogger("latentwire").addHandler(shown)
