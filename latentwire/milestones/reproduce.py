"""Reproduce: do the answers of M0, M2 and M3 agree with the published study's?

Compares the store's answers of the published pair with the published accuracies, condition by
condition and as a whole; with `reference_dir`, question by question and letter by letter. Without,
the verdict is about accuracies alone and says so.
"""

from latentwire.parameters import (
    DEFAULT_TOLERANCE_POINTS,
    OUTPUT_DIR,
    PUBLISHED_FILE,
    Parameter,
    holding,
    one_of,
    points,
)

WORK = "agreement"  # the module that does it
PARAMETERS = (
    Parameter("source", "local", one_of("local", "published"), "whose answers to judge"),
    Parameter(
        "reference_dir",
        "",
        holding(PUBLISHED_FILE),
        f"folder that holds {PUBLISHED_FILE}; empty: figures alone",
    ),
    Parameter(
        "tolerance_points",
        f"{DEFAULT_TOLERANCE_POINTS:g}",
        points,
        "percentage points by which a reproduced accuracy may differ",
    ),
    OUTPUT_DIR,
)
