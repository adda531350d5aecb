"""A tracking server, asked with little patience."""

import requests

from latentwire.errors import LatentWireError
from latentwire.tracking.patience import get
from latentwire.tracking.store import without_password

TIMEOUT_S = 10


def ask(uri: str, path: str = "/health") -> requests.Response:
    """One GET below the server's address.

    Raises LatentWireError when nothing answers, and for an answer that says the server is broken.
    """
    try:
        answer = get(f"{uri.rstrip('/')}{path}", TIMEOUT_S)
    except requests.RequestException as error:
        raise LatentWireError(
            f"no tracking server answers at {without_password(uri)} ({type(error).__name__})"
        ) from None
    if answer.status_code >= 500:
        raise LatentWireError(
            f"the tracking server {without_password(uri)} answers {answer.status_code}"
        )
    return answer
