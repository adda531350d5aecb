"""The published study as runs: its per-question answers, with the bytes counted right.

Reads published_per_question.csv, which stays outside the repository, and logs a condition run and
a chunk run for each of its conditions, marked latentwire.source=published. Done once; a second
start finds it all finished. Then `m4 -P source=published` draws the real pair's curves.
"""

from pathlib import Path

from latentwire.parameters import PUBLISHED_FILE, Parameter, holding


def _folder(text: str) -> Path:
    folder = holding(PUBLISHED_FILE)(text)
    if folder is None:
        raise ValueError(f"give the folder that holds {PUBLISHED_FILE}")
    return folder


WORK = "publishing"  # the module that does it
PARAMETERS = (Parameter("reference_dir", "", _folder, f"folder that holds {PUBLISHED_FILE}"),)
