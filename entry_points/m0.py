import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m0

start(m0.PARAMETERS, m0.run, m0.__doc__)
