"""A tracking server, asked with little patience, and how its address is shown."""

from urllib.parse import urlparse

import requests

from latentwire.errors import LatentWireError

TIMEOUT_S = 10


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's, and not a database or a file."""
    return urlparse(uri).scheme in ("http", "https")


def shown(uri: str) -> str:
    """The URI without a user's name and password."""
    parts = urlparse(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in uri else uri


def ask(uri: str, path: str = "/health") -> requests.Response:
    """One GET below the server's address.

    Raises LatentWireError when nothing answers, and for an answer that says the server is broken.
    """
    try:
        answer = requests.get(uri.rstrip("/") + path, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise LatentWireError(
            f"no tracking server answers at {shown(uri)} ({type(error).__name__})"
        ) from None
    if answer.status_code >= 500:
        raise LatentWireError(f"the tracking server {shown(uri)} answers {answer.status_code}")
    return answer
