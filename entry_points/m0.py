import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m0

if __name__ == "__main__":  # workers import this file again
    start(m0.PARAMETERS, m0.run, m0.__doc__)
