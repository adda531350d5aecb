"""Where numbers come from: the milestone runs behind them, and the hashes that figures name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from latentwire.redaction import redact_uri

LOCAL_PAGE = "http://127.0.0.1:5000"  # of `mlflow ui`, unless it is told otherwise
SHORT = 10  # hexadecimal digits of a hash that people compare by eye


@dataclass(frozen=True)
class Origin:
    """A milestone run that answers were computed by."""

    run_id: str
    experiment_id: str
    name: str
    milestone: str
    pair: str
    source: str
    started_ms: int  # since 1970, UTC
    ended_ms: int | None  # None: it still runs
    status: str
    host: str
    device: str  # "" where the run does not say
    gpus: tuple[str, ...]
    dtype: str
    commit: str
    fuser_hash: str | None
    answers: int  # of those in the curve, how many it computed


def described(
    config: Mapping[str, Any], environment: Mapping[str, Any], checkpoints: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of an Origin that a milestone's three JSON files hold; empty files are allowed."""
    fuser = str(checkpoints.get("identity", {}).get("fuser", ""))
    return {
        "device": str(config.get("device", "")),
        "dtype": str(config.get("dtype", "")),
        "gpus": tuple(str(gpu.get("name", "")) for gpu in environment.get("gpus", ())),
        "commit": str(environment.get("git", {}).get("commit", "")),
        "fuser_hash": fuser.removeprefix("sha256:") or None,
    }


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """The page of a run on a tracking server, without any password that the URI holds, or on the
    one that `mlflow ui` starts for a store that is no server."""
    server = public_uri(tracking_uri) or LOCAL_PAGE
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"


def public_uri(tracking_uri: str) -> str | None:
    """The address of a tracking server, fit to be shown; None for a database or a folder."""
    parts = urlsplit(redact_uri(tracking_uri))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))


def hashes_note(rows: pd.DataFrame) -> str:
    """ "fuser 1f2e3d4c5b, questions 0a9b8c7d6e", as far as the table's rows say; else ""."""
    parts = []
    for title, column in (("fuser", "fuser_hash"), ("questions", "dataset_hash")):
        known = rows[column].dropna().unique()
        if len(known):
            parts.append(f"{title} {' and '.join(str(value)[:SHORT] for value in known)}")
    return ", ".join(parts)
