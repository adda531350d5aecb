"""M14: where does what win? From the store: cells of pair, question set, budget and link."""

from dataclasses import replace
from typing import TYPE_CHECKING

from latentwire.garbage import importing
from latentwire.milestones.from_store import store_for
from latentwire.parameters import (
    BUDGET_BYTES,
    DATASET,
    OUTPUT_DIR,
    PAIR,
    Parameter,
    Values,
    comma_list,
    number,
)

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.tracking.store import Store

LINKS = Parameter(
    "link_mbit_per_s",
    "1,100,10000",
    comma_list(number(0, above=True)),
    "speeds of the link, Mbit/s",
)
PARAMETERS = (
    PAIR,
    DATASET,
    replace(
        BUDGET_BYTES,
        default="1,8,64,256,1024,4096,16384,65536,1048576",
        help="most bytes of a message",
    ),
    LINKS,
    OUTPUT_DIR,
)


def run(values: Values) -> None:
    run_on(store_for(values), values)


def run_on(store: "Store", values: Values) -> None:
    """The milestone on a store that is open already."""
    with importing():
        from latentwire.milestones.regimes import draw_regimes

    draw_regimes(store, values)
