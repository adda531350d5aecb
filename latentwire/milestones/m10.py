"""M10: which tokens, in how many bits, within a budget? Question by question, in bytes.

A budget is a share of the bytes of the question's own whole cache, the sharer's, in 16 bits. Within
it `tokens:int8:int4:int3:int2` gives each token 8, 4, 3, 2 bits or none by what that loses,
`tokens:int8` 8 bits or none, which is the selector's choice, and `int8` and `int4` are the same
bits for all tokens that fit.
"""

from dataclasses import replace

from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    ORDER,
    Parameter,
    Values,
    comma_list,
    of_grid,
    share,
)
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

BUDGET_RATIO = Parameter(
    "budget_ratio",
    "1/32,1/16,1/8,1/4",
    comma_list(share),
    "most bytes of a packet, as shares of the whole cache's in 16 bits; not used with budget_bytes",
)
WORK = "allocating"  # the module that does it
PARAMETERS = of_grid(
    replace(
        CODEC,
        default="tokens:int8,tokens:int8:int4:int3:int2,int8,int4",
        help="codecs by name; tokens:A:B allocates the codecs A and B by token",
    ),
    CALIBRATION,
    BUDGET_RATIO,
    BUDGET_BYTES,
    replace(ORDER, default="back,vnorm"),
)


def conditions(values: Values) -> list[Condition]:
    """Every budget, codec, order and control."""
    budgets = [{"budget_bytes": most} for most in values["budget_bytes"] or ()]
    budgets = budgets or [{"budget_ratio": ratio} for ratio in values["budget_ratio"]]
    return [
        Condition(C2C, Channel(name, order=order, **budget), control)
        for budget in budgets
        for name in values["codec"]
        for order in values["order"]
        for control in values["controls"]
    ]
