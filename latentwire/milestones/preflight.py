"""Preflight: will the rest work? Checks everything that a milestone needs, cheapest first.

One line a check, with a way to mend what is wrong; ends with an error if any failed. The report
is logged as artifacts (preflight.txt and preflight.json) where the store can be written. Milestones
make the fast part of it by themselves, before they load anything.
"""

from latentwire.parameters import STUDY, Values

PARAMETERS = tuple(parameter for parameter in STUDY if parameter.name != "preflight")


def run(values: Values) -> None:
    from latentwire.milestones.checking import check_all  # it takes seconds to import

    check_all(values)
