"""M6: which layers need their bits? Schedules searched, not guessed, at equal bytes.

Uniform bits; the last 2, 4 or 8 layers protected, as published; and schedules searched on training
questions, of as many bits in the mean over tensors as the uniform ones that they stand beside.
"""

from dataclasses import replace

from latentwire.parameters import (
    CALIBRATION,
    CALIBRATION_EXAMPLES,
    CODEC,
    Parameter,
    comma_list,
    int_at_least,
    of_grid,
    one_of,
)

UNIFORM = "int8,int4,int3,int2"
PROTECTED = ",".join(f"int{bits}/last{layers}:bf16" for bits in (8, 4) for layers in (2, 4, 8))
SEARCHED_BITS = Parameter(
    "searched_bits",
    "4,3",
    comma_list(int_at_least(2, 8)),
    "bits in the mean over tensors for which a schedule is searched",
)
ANSWER, DISTORTION = "answer", "distortion"
SEARCHED_BY = Parameter(
    "searched_by",
    ANSWER,
    one_of(ANSWER, DISTORTION),
    "answer: what bits cost the answer, checked on other questions; distortion: what tensors lose",
)
WORK = "scheduling"  # the module that does it
PARAMETERS = of_grid(
    replace(CODEC, default=f"{UNIFORM},{PROTECTED}", help="codecs that searched ones stand beside"),
    CALIBRATION,
    SEARCHED_BITS,
    SEARCHED_BY,
    replace(CALIBRATION_EXAMPLES, help="training questions of each set to search schedules on"),
)
