"""Errors that are the user's to mend, shown as one sentence and never as a traceback."""


class LatentWireError(Exception):
    """Bad input or a missing piece; its text says what is wrong and what to do."""


class NotHere(LatentWireError):
    """Something is not on this machine yet, and was not to be downloaded."""
