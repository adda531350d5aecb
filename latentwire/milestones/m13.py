"""M13: at equal bytes, what is best? Caches, texts, a letter, numbers and whole layers.

Of each kind the best way to fill a budget is chosen on development questions, and scored once on
the test set, with the own message and with another question's; none is longer than its budget.
"""

from dataclasses import replace

from latentwire.channel.selectors.registry import SELECTORS
from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    DONORS,
    MESSAGE_TOKENS,
    ORDER,
    STUDY,
    WORKERS,
    Parameter,
    comma_list,
    int_at_least,
    order_among,
)

DEVELOPMENT_EXAMPLES = Parameter(
    "development_examples", "128", int_at_least(2), "questions of each set to choose by, not scored"
)
PLAIN = ("int8", "int4", "int3", "int2", "tokens:int8:int4:int3:int2")
# Of each calibrated family the fewest bits that lost less than 5 points of F1 on a real model's
# caches (docs/real_models.md), and less than one. `planes..._klt` is behind `klt` at equal bytes,
# and four times as long in coding: it is tried where it is named.
CALIBRATED = ("turbo2.5", "turbo4", "kvtc1", "klt1", "klt1.5")
WORK = "equal_bytes"  # the module that does it
PARAMETERS = (
    *STUDY,
    WORKERS,
    replace(
        CODEC,
        help="codecs of caches that are tried, by name; empty: "
        f"{','.join(PLAIN)}, and with a calibration {','.join(CALIBRATED)}",
    ),
    CALIBRATION,
    replace(
        ORDER,
        default="front,back,vnorm,snapkv",
        parse=comma_list(order_among(*SELECTORS)),
        help="selectors that are tried: which tokens go; kvcomm (whole layers) is tried besides",
    ),
    replace(BUDGET_BYTES, default="1,8,64,256,1024,4096,16384,65536", help="budgets in bytes"),
    replace(MESSAGE_TOKENS, help="most tokens of summaries that are tried; of texts the largest"),
    DEVELOPMENT_EXAMPLES,
    DONORS,
)
