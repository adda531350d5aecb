import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import preflight

start(preflight.PARAMETERS, preflight.run, preflight.__doc__)
