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
WORK = "equal_bytes"  # the module that does it
PARAMETERS = (
    *STUDY,
    WORKERS,
    replace(
        CODEC,
        default="int8,int4,int3,int2,tokens:int8:int4:int3:int2",
        help="codecs of caches that are tried, by name",
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
