"""What all entry points share: parameters in, one sentence on bad input, an exit status out."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from c2c.errors import C2CError
from latentwire.errors import LatentWireError, first_line, unwritable
from latentwire.parameters import Parameter, Values, checked, parser
from latentwire.printable import PrintableFormatter, printable, printable_output
from latentwire.tracking.stop import Stopped, raise_again_what_is_lost, raise_on_sigterm

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM
BROKEN_PIPE = 141  # 128 + SIGPIPE


def start(
    parameters: Sequence[Parameter], run: Callable[[Values], None], description: str
) -> NoReturn:
    """Run an entry point with the command line's parameters and exit."""
    texts = vars(parser(parameters, description).parse_args())
    raise_on_sigterm()
    raise_again_what_is_lost()
    _quiet()
    try:
        with printable_output():
            run(checked(parameters, texts))
    except (LatentWireError, C2CError) as error:
        sys.exit(_fail(str(error), BAD_INPUT))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted; finished chunks are kept, start again to go on", INTERRUPTED))
    except Stopped:
        sys.exit(_fail("terminated; finished chunks are kept, start again to go on", TERMINATED))
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        sentence = unwritable(error) or _of_the_store(error)
        if sentence is None:
            raise
        sys.exit(_fail(sentence, 1))
    sys.exit(0)


def _of_the_store(error: Exception) -> str | None:
    if isinstance(error, MlflowException):
        return f"the tracking store refused a request: {first_line(error)}"
    if isinstance(error, SQLAlchemyError):
        return f"the tracking store cannot be used: {first_line(error)}"
    return None


def _fail(sentence: str, status: int) -> int:
    print(printable(f"error: {sentence}"), file=sys.stderr)
    return status


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
    shown.setFormatter(PrintableFormatter("warning: %(message)s"))
    log = logging.getLogger("latentwire")
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
