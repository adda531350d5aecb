"""The folders that models, fusers and questions are kept in, and the room for what is to come."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from latentwire.checks.downloads import Download, describe_downloads, in_words, known_bytes, unknown
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError
from latentwire.user_files import nearest, path_of, why_not_writable

LEAST_FREE_BYTES = 1_000_000_000  # in the folder that runs are kept in
SPARE = 1.1  # a download is held whole beside what is there already


def check_caches(uses_hub: bool, to_download: bool) -> str:
    """HF_HOME and C2C_CKPT_ROOT: are they there, and can the first be written?

    `uses_hub` says whether the pair or its questions come from the hub, `to_download` whether
    something is still missing. Raises LatentWireError where that could not be stored, and
    CheckWarning for a folder that is named and not there.
    """
    from huggingface_hub import constants

    home, cache = Path(constants.HF_HOME), Path(constants.HF_HUB_CACHE)
    doubts = []
    if uses_hub:
        reason = why_not_writable(cache)
        if reason and to_download:
            raise LatentWireError(f"HF_HOME {home} cannot be written ({reason})")
        if reason:
            doubts.append(
                f"HF_HOME {home} cannot be written ({reason}): only what is in it is used"
            )
        elif "HF_HOME" in os.environ and not home.is_dir():
            doubts.append(f"HF_HOME {home} is not there yet, a download makes it")
    folder = path_of("C2C_CKPT_ROOT")
    if folder:
        if not folder.is_dir():
            doubts.append(f"C2C_CKPT_ROOT {folder} is no folder: fusers are not looked for there")
        elif not os.access(folder, os.R_OK | os.X_OK):
            raise LatentWireError(f"C2C_CKPT_ROOT {folder} cannot be read")
    if doubts:
        raise CheckWarning("; ".join(doubts))
    used = f"HF_HOME {home}" if uses_hub else "HF_HOME is not needed"
    return f"{used}, C2C_CKPT_ROOT {folder or 'is not set'}"


def check_disk(downloads: Sequence[Download]) -> str:
    """Free disk for runs here, and for what is still to be downloaded in the hub's cache.

    Raises LatentWireError where there is too little, and CheckWarning where a size is not known.
    """
    from huggingface_hub import constants

    here = shutil.disk_usage(Path.cwd()).free
    if here < LEAST_FREE_BYTES:
        raise LatentWireError(
            f"{in_words(here)} free in {Path.cwd()}, where runs are kept; at least"
            f" {in_words(LEAST_FREE_BYTES)} are needed"
        )
    found = f"{in_words(here)} free in the project folder"
    if not downloads:
        return f"{found}, nothing to download"
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(nearest(cache)).free
    needed = int(known_bytes(downloads) * SPARE)
    if free < needed:
        raise LatentWireError(
            f"{in_words(free)} free in {cache}, to download: {describe_downloads(downloads)},"
            f" which needs"
            f" {in_words(needed)}"
        )
    found += f", {in_words(free)} in {cache}; to download: {describe_downloads(downloads)}"
    if unknown(downloads):
        raise CheckWarning(found)
    return found
