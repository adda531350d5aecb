import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import calibrate

start(calibrate.PARAMETERS, calibrate.run, calibrate.__doc__)
