"""The Hugging Face hub: whether it may be asked, and whether it can be reached."""

import logging
import time
from functools import cache

TIMEOUT_S = 5  # of one question
TRIES, PAUSE_S = 3, 0.5  # a network may hiccup

log = logging.getLogger("latentwire")


def is_offline() -> bool:
    """Whether the hub must not be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def answers() -> bool:
    """Whether the hub can be asked: it may be, and something is there. It is tried once, and what
    was found holds for the rest of the process: its clients would try again for minutes, each time
    that they need something."""
    from huggingface_hub import constants

    return not is_offline() and _reached(constants.ENDPOINT)


@cache
def _reached(endpoint: str) -> bool:
    import httpx
    from huggingface_hub.utils import get_session

    begun = time.monotonic()
    for turn in range(TRIES):
        if turn and time.monotonic() - begun > TIMEOUT_S:
            break
        time.sleep(PAUSE_S if turn else 0)
        try:
            get_session().head(endpoint, timeout=TIMEOUT_S)
            return True
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            log.debug("%s cannot be reached: %s", endpoint, error)
        except httpx.HTTPError:  # it is there; what it lacks, its clients try again
            return True
    return False
