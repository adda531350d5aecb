"""All milestones in order, M0 to M4, with the models loaded once; baselines after M0, and codecs
calibrated before M1."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from latentwire.errors import LatentWireError
from latentwire.milestones import baselines, calibrate, m0, m1, m2, m3, m4
from latentwire.milestones.milestone import MilestoneRun, milestone_run
from latentwire.milestones.preflight import begin
from latentwire.milestones.study import Study
from latentwire.parameters import (
    CALIBRATION_EXAMPLES,
    KV_BITS,
    MESSAGE_TOKENS,
    OUTPUT_DIR,
    SAMPLE,
    STUDY,
    WORKERS,
    Parameter,
    Values,
    checked,
)

# M3 has a kv_bits of its own, so M2's cannot go by that name here.
M2_KV_BITS = replace(KV_BITS, name="m2_kv_bits", help="bits per number that M2 compares")
PARAMETERS = (
    *STUDY,
    WORKERS,
    MESSAGE_TOKENS,
    M2_KV_BITS,
    CALIBRATION_EXAMPLES,
    SAMPLE,
    OUTPUT_DIR,
)
STEPS = (m0, baselines, calibrate, m1, m2, m3)


def run(values: Values) -> None:
    study = begin(values)
    if values["dry_run"]:
        for milestone in STEPS:
            _run_step(milestone, study, values)
        return
    with milestone_run(study.store, "main", study.resolved(values), study.pair.name) as parent:
        for milestone in STEPS:
            _run_step(milestone, study, values, parent)
        drawn = {
            **_complete(m4.PARAMETERS, values),
            "pair": study.pair.name,
            "dataset": study.dataset_names,
        }
        m4.run_in(study.store, drawn, parent)


def _run_step(
    milestone: Any, study: Study, values: Values, parent: MilestoneRun | None = None
) -> None:
    """One milestone. Calibrating needs training questions and a model that it knows how to
    calibrate; without them the others go on, and M1 leaves out what is not calibrated."""
    try:
        milestone.run_in(study, _complete(milestone.PARAMETERS, values), parent)
    except LatentWireError as error:
        if milestone is not calibrate:
            raise
        print(f"calibrate: left out: {error}")


def _complete(parameters: Sequence[Parameter], values: Values) -> Values:
    """A milestone's parameters: those given to `main`, and the milestone's own defaults."""
    defaults = checked(parameters, {parameter.name: parameter.default for parameter in parameters})
    given = {"kv_bits": values[M2_KV_BITS.name]} if parameters is m2.PARAMETERS else {}
    return {name: (values | given).get(name, default) for name, default in defaults.items()}
