"""How a program ends: an error as one sentence and an exit status."""

import os
import sys
import traceback
from contextlib import suppress

from c2c.errors import C2CError
from latentwire.errors import LatentWireError, as_sentence, first_line, unwritable
from latentwire.redaction import without_secrets
from latentwire.tracking.signals import Terminated

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM
BROKEN_PIPE = 141  # 128 + SIGPIPE
TRACEBACK = "LATENTWIRE_TRACEBACK"  # environment: show where an error comes from, too


def end(error: BaseException, kept: str = "") -> int:
    """The exit status for what has ended the program, with a sentence on standard error; `kept`
    says what an interruption leaves. An error that shows a fault of the program is raised again.
    """
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as `| head` does
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    found = sentence(error, kept)
    if found is None:
        raise error
    text, status = found
    with suppress(OSError):  # nobody reads it
        if os.environ.get(TRACEBACK):
            print(without_secrets("".join(traceback.format_exception(error))), file=sys.stderr)
        print(f"error: {text}", file=sys.stderr)
    return status


def reason(error: BaseException) -> str:
    """What ended the program, in a sentence, also where that shows a fault of it."""
    found = sentence(error)
    return found[0] if found else as_sentence(f"{type(error).__name__}: {first_line(error)}")


def sentence(error: BaseException, kept: str = "") -> tuple[str, int] | None:
    """What to say of an error, and the exit status; None for a fault of the program."""
    if isinstance(error, LatentWireError):
        return str(error), BAD_INPUT
    if isinstance(error, C2CError):
        return as_sentence(str(error)), BAD_INPUT
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {kept}start again to go on", INTERRUPTED
    if isinstance(error, Terminated):
        return f"terminated; {kept}start again to go on", TERMINATED
    text = unwritable(error) or _of_the_store(error) or _of_the_machine(error)
    return (as_sentence(text), FAILED) if text else None


def _of_the_store(error: BaseException) -> str | None:
    # By name: to import MLflow takes seconds, and who has not imported it gets no error of it.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "MlflowException" in kinds:
        return f"the tracking store refused a request: {first_line(error)}"
    if "SQLAlchemyError" in kinds:
        return f"the tracking store cannot be used: {first_line(error)}"
    return None


def _of_the_machine(error: BaseException) -> str | None:
    """What a file, a terminal or too little memory has done, and no fault of the program."""
    if isinstance(error, OSError):
        reason = error.strerror or first_line(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, UnicodeEncodeError):
        return (
            f"a text cannot be written as {error.encoding}: set PYTHONIOENCODING=utf-8 and"
            " LC_ALL=C.UTF-8"
        )
    if isinstance(error, RecursionError):
        return "what was read is nested too deeply"
    if isinstance(error, MemoryError):
        return "out of memory: take fewer workers, a smaller batch_size or a smaller file"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is not here: make setup installs what is needed"
    return None
