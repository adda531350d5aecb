import _first  # noqa: F401  (must come first)

from latentwire.entry import start
from latentwire.milestones import m2

if __name__ == "__main__":  # workers import this file again
    start(m2.PARAMETERS, m2.run, m2.__doc__)
