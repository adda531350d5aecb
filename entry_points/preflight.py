import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import preflight

if __name__ == "__main__":  # workers import this file again
    start(preflight.PARAMETERS, preflight.run, preflight.__doc__)
