"""How many examples a property gets: a few at every start, many where others are looked for."""

import os

from hypothesis import settings

PROFILE = os.environ.get("LATENTWIRE_HYPOTHESIS", "same")


def examples(few: int, many: int) -> settings:
    """For a property that is tested for each of many codecs: `few` of each are thousands."""
    return settings(max_examples=few if PROFILE == "same" else many)
