"""Errors that are the user's to mend, shown as one sentence and never as a traceback."""


class LatentWireError(Exception):
    """Bad input or a missing piece; its text says what is wrong and what to do."""


class NotHere(LatentWireError):
    """Something is not on this machine yet, and was not to be downloaded."""


def first_line(error: Exception) -> str:
    """What an error of a library says, without the pages that may follow; its name if nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
