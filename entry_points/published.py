import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import published

start(published.PARAMETERS, published.run, published.__doc__)
