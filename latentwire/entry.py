"""What all entry points share: parameters in, one sentence on bad input, an exit status out."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from latentwire.ending import end
from latentwire.parameters import Parameter, Values, checked, parser
from latentwire.printable import printable_output
from latentwire.terminal import PlainLines, prepare_output
from latentwire.tracking.stop import raise_again_what_is_lost, raise_on_sigterm


def start(
    parameters: Sequence[Parameter], run: Callable[[Values], None], description: str
) -> NoReturn:
    """Run an entry point with the command line's parameters and exit."""
    prepare_output()
    texts = vars(parser(parameters, description).parse_args())
    raise_on_sigterm()
    raise_again_what_is_lost()
    _quiet()
    try:
        with printable_output():
            run(checked(parameters, texts))
        sys.stdout.flush()
    except BaseException as error:
        sys.exit(end(error, kept="finished chunks are kept, "))
    sys.exit(0)


def _quiet() -> None:
    """Keep other libraries' progress bars and chatter out of logs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar per file
    warnings.filterwarnings("ignore", module="mlflow")
    # It logs the traceback of an error that it raises as well; we say that one in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Milestones write what is logged to a file; what is amiss is shown as well.
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    shown.setFormatter(PlainLines("warning: %(message)s"))
    log = logging.getLogger("latentwire")
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
