"""All milestones, M0 to M4, with the models loaded once.

Codecs are calibrated first, for controls are made of that too. Then comes what a curve is made of:
M0, M2, M3 and baselines in one pass; then M1, and M4 tells what was found.
Selectors are compared (M8) where some are asked for, in the same pass and on few questions: their
rows stay incomplete, so that what is said of the others does not depend on them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from c2c.errors import C2CError
from latentwire.errors import LatentWireError, first_line, unwritable
from latentwire.milestones import baselines, calibrate, m0, m1, m2, m3, m4, m8
from latentwire.milestones.registry import name_of, run_milestone
from latentwire.parameters import (
    CALIBRATION_EXAMPLES,
    CODEC,
    CONTROLS_SENT,
    DONORS,
    KEEP_RATIOS,
    KV_BITS,
    MESSAGE_TOKENS,
    ORDER,
    OUTPUT_DIR,
    SAMPLE,
    STUDY,
    WORKERS,
    Parameter,
    Values,
    completed,
)

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.session.session import Session
    from latentwire.tracking.store import Store

# Other milestones have parameters of these names too, with other defaults.
M1_CODEC = replace(CODEC, name="m1_codec", help="codecs that M1 measures, by name; none: all")
M2_KV_BITS = replace(KV_BITS, name="m2_kv_bits", help="bits per number that M2 compares")
M3_KEEP_RATIO = replace(
    KEEP_RATIOS, name="m3_keep_ratio", help="shares of the instruction tokens that M3 keeps"
)


def _or_none(parameter: Parameter, name: str, help: str) -> Parameter:
    """One of several values that may be none at all, which it is by default."""
    parse = parameter.parse
    return replace(
        parameter,
        name=name,
        default="",
        parse=lambda text: parse(text) if text else (),
        help=help,
    )


M0_CONTROLS = _or_none(
    CONTROLS_SENT,
    "m0_controls",
    "controls that M0 sends besides its usual ones, such as mean and noise",
)
M8_ORDER = _or_none(
    ORDER,
    "m8_order",
    "selectors that M8 compares at a quarter of the tokens, on few questions; none: no M8",
)
M8_QUESTIONS = 40  # of each set, at most
M8_KEEP_RATIO = 0.25
PARAMETERS = (
    *STUDY,
    WORKERS,
    DONORS,
    MESSAGE_TOKENS,
    M1_CODEC,
    M2_KV_BITS,
    M3_KEEP_RATIO,
    M0_CONTROLS,
    M8_ORDER,
    CALIBRATION_EXAMPLES,
    SAMPLE,
    OUTPUT_DIR,
)
# Computed in one pass, by the same workers; M0, M2 and M3 have most of their reading in common.
GRIDS = (m0, m2, m3, baselines)
BEHIND = (m1,)

log = logging.getLogger("latentwire")


def run_on(session: "Session") -> None:
    from latentwire.session.milestone_run import session_run

    values = session.values
    grids = (*GRIDS, m8) if values[M8_ORDER.name] else GRIDS
    if values["dry_run"]:
        for milestone in (calibrate, *grids, *BEHIND):
            _run_step(milestone, session)
        return
    with session_run(session, "main") as parent:
        failures, below = (
            _Failures(session.store, len(grids) + len(BEHIND) + 2),
            session.below(parent),
        )
        failures.survive("calibrate", lambda: _run_step(calibrate, below))
        _run_together(grids, below, failures)
        for milestone in BEHIND:
            failures.survive(name_of(milestone), partial(_run_step, milestone, below))
        drawn = _complete(m4.PARAMETERS, values) | {
            "pair": session.pair.name,
            "dataset": session.question_sets,
        }
        failures.survive("m4", lambda: m4.run_on(session.store, drawn, parent))
        failures.end()


@dataclass
class _Failures:
    """The milestones that could not be done. The others are, and then the first error is raised, so
    that no failed study looks like a whole one."""

    store: "Store"
    milestones: int
    errors: dict[str, Exception] = field(default_factory=dict)

    def survive(self, name: str, run: Callable[[], None]) -> None:
        """Run a milestone; an error of it is kept. One of the store or of a disk, which the next
        would meet too, is raised."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            run()
        except (MlflowException, SQLAlchemyError, OSError):
            raise
        except Exception as error:
            if unwritable(error) is not None or not self.store.is_reachable():
                raise
            self.errors[name] = error
            log.warning("main: %s failed and the others go on: %s", name, first_line(error))

    def end(self) -> None:
        """Raise what was kept: an error of the code as it is, others in one sentence."""
        for error in self.errors.values():
            if not isinstance(error, (LatentWireError, C2CError)):
                raise error
        if self.errors:
            said = "; ".join(f"{name}: {first_line(error)}" for name, error in self.errors.items())
            raise LatentWireError(
                f"{len(self.errors)} of {self.milestones} milestones failed, the others are done"
                f" ({said}); mend it and start again, finished chunks are kept"
            )


def _run_together(milestones: Sequence[Any], session: "Session", failures: _Failures) -> None:
    """Grids, computed in one pass; each by itself where that fails, so that none takes the others
    with it."""
    from latentwire.session.grid import Grid, plan_grid, run_grids

    grids: list[Grid] = []

    def plan(milestone: Any) -> None:
        own = session.under(_complete(milestone.PARAMETERS, session.values))
        wanted = m8.possible(own) if milestone is m8 else milestone.conditions(own.values)
        planned = plan_grid(own, name_of(milestone), wanted)
        assert planned is not None
        grids.append(planned)

    for milestone in milestones:
        failures.survive(name_of(milestone), partial(plan, milestone))
    if not grids:
        return
    together = ", ".join(grid.name for grid in grids)
    failures.survive(together, lambda: run_grids(grids, failures.survive))
    if failures.errors.pop(together, None) is not None:
        for milestone in milestones:
            if name_of(milestone) not in failures.errors:
                failures.survive(name_of(milestone), partial(_run_step, milestone, session))


def _run_step(milestone: Any, session: "Session") -> None:
    """One milestone. Calibrating needs training questions and a model that it knows how to
    calibrate; without them the others go on, and M1 leaves out what is not calibrated."""
    try:
        run_milestone(milestone, session.under(_complete(milestone.PARAMETERS, session.values)))
    except LatentWireError as error:
        if milestone is not calibrate:
            raise
        print(f"calibrate: left out: {error}")


def _complete(parameters: Sequence[Parameter], values: Values) -> Values:
    """A milestone's parameters: those given to `main`, and the milestone's own defaults."""
    own: dict[str, Any] = {}
    if parameters is m0.PARAMETERS:
        usual = {parameter.name: parameter for parameter in parameters}["controls"]
        controls = (*usual.parse(usual.default), *values[M0_CONTROLS.name])
        own = {"controls": tuple(dict.fromkeys(controls))}
    elif parameters is m1.PARAMETERS:
        own = {"codec": values[M1_CODEC.name]}
    elif parameters is m2.PARAMETERS:
        own = {"kv_bits": values[M2_KV_BITS.name]}
    elif parameters is m3.PARAMETERS:
        own = {"keep_ratio": values[M3_KEEP_RATIO.name]}
    elif parameters is m8.PARAMETERS:
        own = {
            "kv_bits": (8,),
            "keep_ratio": (M8_KEEP_RATIO,),
            "order": values[M8_ORDER.name],
            "limit": min(values["limit"] or M8_QUESTIONS, M8_QUESTIONS),
        }
    return completed(parameters, values | own)
